//! A conversion beside its original model: both run a text, and every stored matrix is compared with
//! the one that it stands for.

mod stored;
mod stream;
mod tensors;
mod text;
mod vectors;

use crate::calibrate::{self, Products};
use crate::component_options::{TypedOption, WINDOW_CACHE};
use crate::convert::{Named, named_weights};
use crate::event::Event;
use crate::model_files::{HeadChoice, hash_source};
use crate::model_source::{Need, Source};
use crate::original::{Original, OriginalRequest};
use crate::plugins::Plugins;
use crate::quantizer_choice::QuantizerChoice;
use crate::request::ConvertRequest;
use crate::scratch;
use crate::statistics::Statistics;
use anemll_calibration::{CHECKPOINT, Calibration, Comparison, Counting, Kind, Progress};
use anemll_codes as codes;
use anemll_conversion::{Conversion, REPORT};
use anemll_generation::distance::by_position;
use anemll_generation::engine::Engine;
use anemll_generation::perplexity::{Distance, EvaluationPath, check_vocabulary, evaluate_text};
use anemll_generation::sources::List;
use anemll_huggingface::ModelDirectory;
use anemll_plugin_api::data::Stage;
use anemll_plugin_api::{Error, Host, Result};
use std::path::{Path, PathBuf};

pub use text::{BUILT_IN, Sample};
pub use vectors::{TextDistance, VectorComparison, compare_vectors};

/// Runs of positions of which the divergence is told.
const SPANS: u64 = 32;

/// A comparison as it is asked for.
#[derive(Debug, Clone)]
pub struct CompareRequest {
    /// meta.yaml of the conversion.
    pub meta: PathBuf,
    /// The original model: a directory, an entry of a hub's cache, or a name on the hub.
    pub model: PathBuf,
    /// A text; the built-in one, which no calibration uses, when absent.
    pub text: Option<PathBuf>,
    /// Most tokens of it.
    pub tokens: u64,
    /// Id of the frontend, where several accept the model.
    pub arch: Option<String>,
    /// Which weight the head has, where two are there.
    pub head: Option<HeadChoice>,
    /// Id of the runtime.
    pub runtime: String,
    /// Bytes of memory that products of inputs may take; half of what is free when absent.
    pub memory: Option<u64>,
    /// Where temporary packages go; the system's own place when absent.
    pub scratch: Option<PathBuf>,
}

/// Compares a conversion with its original.
///
/// # Errors
/// The conversion is of another model; the text is too short or cannot be read; those of opening and
/// running both.
pub fn compare(
    request: &CompareRequest,
    plugins: &Plugins,
    host: &Host,
    show: &dyn Fn(&Event<'_>),
) -> Result<Comparison> {
    let conversion = Conversion::read(&request.meta)?;
    let runtime = plugins.exact_runtime(&request.runtime)?;
    let mut engine = Engine::open(&request.meta, runtime.as_ref(), host)?;
    let model = Source::open(&request.model, Need::Weights, show)?.whole(show)?;
    let directory = ModelDirectory::open(&model).map_err(Error::from)?;
    let source_sha256 = hash_source(&directory, show)?;
    refuse_other_model(&conversion, &source_sha256, &model)?;
    let folder = scratch::folder(&scratch::or_usual(request.scratch.as_deref()), "anemll-eval-")?;
    let (options, note) = frontend_options(&conversion, request, &directory, plugins)?;
    let pieces = conversion.description.head.sizes.len() as u64;
    let named = named_weights(
        &ConvertRequest {
            context: engine.context(),
            batch: engine.batch(),
            arch: request.arch.clone(),
            head: request.head,
            split_lm_head: (pieces > 0).then_some(pieces),
            quantizer: QuantizerChoice { options: options.clone(), ..QuantizerChoice::none() },
            ..ConvertRequest::unquantized(&model, folder.path())
        },
        plugins,
    )?;
    refuse_other_vocabulary(&engine, &named, &model)?;
    let tokenizer = calibrate::tokenizer(&model)?;
    let context = usize::try_from(engine.context()).unwrap_or(usize::MAX);
    let sample = Sample::new(&tokenizer, request.text.as_deref(), request.tokens, context)?;
    check_vocabulary(&engine, sample.tokens()).map_err(|error| error.with_at(sample.name()))?;

    let original = OriginalRequest {
        model: model.clone(),
        context: engine.context(),
        arch: request.arch.clone(),
        head: request.head,
        options,
        source_sha256: Some(source_sha256),
        runtime: request.runtime.clone(),
        scratch: request.scratch.clone(),
    };
    let mut original = Original::open(&original, plugins, host, show)?;
    let reference = (&mut original.engine, model.display().to_string());
    let total = sample.tokens().len() as u64;
    let progress = |what, done| show(&Event::Measure { what, unit: "tokens", done, total });
    // An export has no evaluation functions.
    let path = match engine.evaluation_functions().is_empty() {
        true => EvaluationPath::Infer,
        false => EvaluationPath::Evaluate,
    };
    let evaluation = evaluate_text(
        &mut engine,
        Some(reference),
        &mut List::new(sample.lead().to_vec(), sample.tokens().to_vec()),
        path,
        &mut |done| progress("comparing", done),
    )
    .map_err(|error| if error.at.is_none() { error.with_at(sample.name()) } else { error })?;
    let rotations = tensors::rotations(&conversion, plugins);
    let windows = sample.corpus(context)?;
    let layers = match (path, &rotations[..]) {
        (EvaluationPath::Evaluate, [seed]) => {
            let engines = [&mut original.engine, &mut engine];
            stream::compare(engines, windows.windows(), *seed, show)?
        }
        // Without records, a basis is not known before the weights are looked at.
        _ => Vec::new(),
    };
    drop(engine);
    let Some(Distance { reference, distributions, tokens, .. }) = evaluation.against else {
        return Err(Error::new(codes::INTERNAL, "nothing was compared"));
    };

    let statistics = folder.path().join("inputs.safetensors");
    let taps = original.taps(Counting::Evenly)?;
    let memory = calibrate::memory(request.memory);
    let products = Products { taps: &taps, memory, output: &statistics };
    let refused = products.refused(show);
    let statistics = match &refused {
        // Mean squares leave out what inputs have in common: another error would come of them.
        Some(_) => None,
        None => {
            let calibration = Calibration {
                corpus: &windows,
                taps: &taps,
                kind: Kind::Products,
                judge: None,
                source_sha256: &original.source_sha256,
                memory,
                checkpoint: CHECKPOINT,
                output: &statistics,
            };
            anemll_calibration::calibrate(&mut original.engine, &calibration, &|seen| {
                let Progress { done, total } = seen;
                show(&Event::Measure { what: "looking at inputs", unit: "tokens", done, total });
            })?;
            Some(Statistics::made(&statistics)?)
        }
    };
    drop(original);
    let found = tensors::Tensors {
        conversion: &conversion,
        named: &named.weights,
        directory: &directory,
        statistics: statistics.as_ref(),
        refused: refused.as_deref(),
        counts: &sample.counts(named.description.vocabulary_size),
        rotations,
    }
    .compare(show)?;

    let per_token = evaluation.tokens as f64 / sample.words().max(1) as f64;
    Ok(Comparison {
        schema: Comparison::SCHEMA,
        meta: request.meta.display().to_string(),
        model: request.model.display().to_string(),
        text: sample.name().to_owned(),
        tokens: evaluation.tokens,
        words: sample.words(),
        windows: evaluation.windows,
        window_tokens: evaluation.window_tokens,
        scored: evaluation.scored,
        nats_per_word: (evaluation.model.nll_mean - reference.nll_mean) * per_token,
        conversion: evaluation.model,
        original: reference,
        distributions,
        by_position: by_position(&tokens, SPANS),
        layers,
        tensors: found.tensors,
        notes: note.into_iter().chain(found.notes).collect(),
    })
}

/// The options that the frontend was given for the conversion, by which its weights may be other
/// multiples of the model's; where it does not record them, a note.
fn frontend_options(
    conversion: &Conversion,
    request: &CompareRequest,
    directory: &ModelDirectory,
    plugins: &Plugins,
) -> Result<(Vec<TypedOption>, Option<String>)> {
    let config = directory.config_file();
    let id = plugins.frontend_id(config.text(), request.arch.as_deref())?;
    let report = conversion.report();
    if report["options"].is_null() {
        let note = format!(
            "the conversion has no {REPORT} that names its options: matrices are compared as the plugin \
             `{id}` makes them without any"
        );
        return Ok((Vec::new(), Some(note)));
    }
    let recorded = report["options"]["option"].as_array().into_iter().flatten();
    let typed = recorded.filter_map(|option| option.as_str()?.parse::<TypedOption>().ok());
    // What caches hold is not what weights are, and another batch may not suit it.
    let of_weights =
        |option: &TypedOption| option.is_of(Stage::Arch, &id) && option.name != WINDOW_CACHE;
    Ok((typed.filter(of_weights).collect(), None))
}

/// Refuses a model that the conversion was not made from; of a conversion that does not name its own,
/// nothing is known.
fn refuse_other_model(conversion: &Conversion, sha256: &str, model: &Path) -> Result<()> {
    match conversion.source_sha256() {
        Some(own) if own != sha256 => Err(Error::new(
            codes::EVALUATION_INPUT,
            format!(
                "the conversion was made from another model: its SHA-256 is {}, that of this one {}",
                short(&own),
                short(sha256)
            ),
        )
        .with_at(model.display().to_string())
        .with_hint(
            "name the model that was converted, as it was; to compare two conversions: --against",
        )),
        _ => Ok(()),
    }
}

/// The beginning of a sum, by which it is told from others.
fn short(sha256: &str) -> String {
    let beginning: String = sha256.chars().take(12).collect();
    format!("{beginning}…")
}

fn refuse_other_vocabulary(engine: &Engine, named: &Named, model: &Path) -> Result<()> {
    let theirs = named.description.vocabulary_size;
    match engine.vocabulary() {
        Some(ours) if ours != theirs => Err(Error::new(
            codes::EVALUATION_INPUT,
            format!(
                "the conversion has logits for {ours} tokens, the model a vocabulary of {theirs}"
            ),
        )
        .with_at(model.display().to_string())
        .with_hint("name the model that was converted")),
        _ => Ok(()),
    }
}
