//! Several forms of a model's weights tried, with one calibration for all: size against distance from
//! the original.

use crate::calibrate;
use crate::compare::Sample;
use crate::component_options::TypedOption;
use crate::convert::{dry_run, named_weights};
use crate::event::Event;
use crate::finish::SmallFiles;
use crate::kept::Kept;
use crate::model_files::{HeadChoice, hash_source};
use crate::model_source::{Need, Source};
use crate::original::{Original, OriginalRequest};
use crate::own_calibration::OwnCalibration;
use crate::plugins::Plugins;
use crate::quantization::outline;
use crate::quantizer_choice::QuantizerChoice;
use crate::request::{CPU, CalibrationChoice, ConvertRequest, NONE};
use crate::scratch;
use crate::statistics::Statistics;
use crate::trial::Trial;
use anemll_calibration::{Judge, Kind, Sweep, SweepRow};
use anemll_codes as codes;
use anemll_export::shell_word;
use anemll_generation::distance::percentile;
use anemll_huggingface::ModelDirectory;
use anemll_plugin_api::data::{Knowledge, ModelDescription};
use anemll_plugin_api::{Error, Host, Result};
use anemll_services::check_cancelled;
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Tokens of a window of text.
const WINDOW: u64 = 512;
/// Most forms that are tried: each takes as long as a conversion.
const MOST: usize = 100;

/// A part of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The matrices of attention and MLP.
    Layers,
    /// The embedding.
    Embeddings,
    /// The head.
    Head,
    /// All of these.
    All,
}

impl Part {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Layers => "layers",
            Self::Embeddings => "embeddings",
            Self::Head => "head",
            Self::All => "all",
        }
    }

    /// The flags of `convert` that give this part, and no other, a form.
    fn flags(self, lut: &str) -> Vec<TypedOption> {
        let flag = |flag, name| TypedOption::of_flag(flag, name, lut);
        let parts = match self {
            Self::Layers => vec![flag("--lut2", "layers")],
            Self::Embeddings => vec![flag("--lut1", "embeddings")],
            Self::Head => vec![flag("--lut3", "head")],
            Self::All => {
                vec![flag("--lut1", "embeddings"), flag("--lut2", "layers"), flag("--lut3", "head")]
            }
        };
        let nothing = (self != Self::All).then(|| TypedOption::of_flag("--lut", "all", NONE));
        nothing.into_iter().chain(parts).collect()
    }

    /// Whether a weight with this role belongs to it.
    fn has(self, role: &str) -> bool {
        match role {
            "embedding" => matches!(self, Self::Embeddings | Self::All),
            "head" => matches!(self, Self::Head | Self::All),
            _ => matches!(self, Self::Layers | Self::All),
        }
    }
}

/// A sweep as it is asked for.
#[derive(Debug, Clone)]
pub struct SweepRequest {
    /// The model: a directory, an entry of a hub's cache, or a name on the hub.
    pub model: PathBuf,
    /// Bits of an index.
    pub bits: Vec<u32>,
    /// Groups, as the quantizer's options take them after the bits.
    pub groups: Vec<String>,
    /// What the forms are for.
    pub part: Part,
    /// Id of the quantizer, and options of it.
    pub quantizer: QuantizerChoice,
    /// Where the statistics of all forms come from.
    pub calibration: CalibrationChoice,
    /// A text; the built-in one, which no calibration uses, when absent.
    pub text: Option<PathBuf>,
    /// Most tokens of it.
    pub tokens: u64,
    /// Id of the frontend, where several accept the model.
    pub arch: Option<String>,
    /// Which weight the head has, where two are there.
    pub head: Option<HeadChoice>,
    /// Where temporary packages go; the system's own place when absent.
    pub scratch: Option<PathBuf>,
}

/// One form, and the conversion that has it.
struct Form {
    bits: u32,
    group: String,
    lut: String,
    request: ConvertRequest,
}

impl Form {
    /// What makes `convert` do the same.
    fn flags(&self) -> String {
        let ConvertRequest { arch, head, quantizer, calibration, .. } = &self.request;
        let arch = arch.iter().map(|id| format!("--arch {id}"));
        let head = head.iter().map(|head| format!("--head {}", head.name()));
        let calibration = match calibration {
            CalibrationChoice::Auto => None,
            CalibrationChoice::None => Some(format!("--calibration {NONE}")),
            CalibrationChoice::File(file) => {
                Some(format!("--calibration {}", shell_word(&file.to_string_lossy())))
            }
        };
        arch.chain(head).chain(quantizer.line()).chain(calibration).collect::<Vec<_>>().join(" ")
    }
}

/// Tries every form. `ready` hears of each as soon as it is measured.
///
/// # Errors
/// A form that no weight can have, before any work; those of a calibration and of a conversion.
pub fn sweep(
    request: &SweepRequest,
    plugins: &Plugins,
    host: &Host,
    show: &dyn Fn(&Event<'_>),
    ready: &mut dyn FnMut(&SweepRow) -> Result<()>,
) -> Result<Sweep> {
    let place = scratch::or_usual(request.scratch.as_deref());
    let model = Source::open(&request.model, Need::Weights, show)?.whole(show)?;
    // Nothing is written there: a plan wants to know where it would.
    let nowhere = scratch::folder(&place, "anemll-sweep-")?;
    let forms = forms(request, &model, nowhere.path())?;
    for form in &forms {
        dry_run(&form.request, plugins, &|_| ())
            .map_err(|error| error.with_cause(format!("in the form {}", form.lut)))?;
    }
    let tokenizer = calibrate::tokenizer(&model)?;
    let sample = Sample::new(&tokenizer, request.text.as_deref(), request.tokens, WINDOW as usize)?;

    let directory = ModelDirectory::open(&model).map_err(Error::from)?;
    let source_sha256 = hash_source(&directory, show)?;
    if let CalibrationChoice::File(file) = &request.calibration {
        Statistics::made(file)?.check_source(&source_sha256)?;
    }
    let plain = ConvertRequest {
        context: WINDOW,
        arch: request.arch.clone(),
        head: request.head,
        ..ConvertRequest::unquantized(&model, nowhere.path())
    };
    let named = named_weights(&plain, plugins)?;
    let original = OriginalRequest {
        model: model.clone(),
        context: WINDOW,
        arch: request.arch.clone(),
        head: request.head,
        options: Vec::new(),
        source_sha256: Some(source_sha256.clone()),
        runtime: CPU.to_owned(),
        scratch: request.scratch.clone(),
    };
    let mut original = Original::open(&original, plugins, host, show)?;
    let corpus = sample.corpus(WINDOW as usize)?;
    let total = corpus.tokens();
    let judge = Judge::new(&mut original.engine, &corpus, &|done| {
        let what = "running the original model";
        show(&Event::Measure { what, unit: "tokens", done, total });
    })?;
    drop(original);

    let own = OwnCalibration {
        arguments: &plain,
        plugins,
        host,
        model: &model,
        source_sha256: &source_sha256,
        tokenizer_sha256: SmallFiles::read(&directory, true)?.fingerprint(),
        scratch: &place,
        parameters: named.description.parameters,
        show,
    };
    let kind = match knowledge(&request.quantizer, &named.description, plugins)? {
        Knowledge::Nothing => None,
        Knowledge::Products => Some(Kind::Products),
        _ => Some(Kind::Squares),
    };
    let wanted = kind.filter(|_| request.calibration == CalibrationChoice::Auto);
    let made = wanted.map(|kind| own.statistics(kind)).transpose()?;
    let calibration = match (&made, &request.calibration) {
        (Some(made), _) => CalibrationChoice::File(made.path.clone()),
        (None, CalibrationChoice::Auto) => CalibrationChoice::None,
        (None, given) => given.clone(),
    };
    let kept = Arc::new(Kept::new(source_sha256));
    let elements = |weight: &crate::references::Weight| weight.shape.iter().product::<u64>();
    let mut sweep = Sweep {
        schema: Sweep::SCHEMA,
        model: request.model.display().to_string(),
        part: request.part.name().to_owned(),
        quantizer: request.quantizer.id().to_owned(),
        text: sample.name().to_owned(),
        tokens: total,
        original_perplexity: f64::NAN,
        original_bytes: named.weights.iter().map(|weight| 2 * elements(weight)).sum(),
        rows: Vec::new(),
    };
    for form in forms {
        check_cancelled()?;
        let asked = ConvertRequest {
            calibration: calibration.clone(),
            kept: Some(Arc::clone(&kept)),
            ..form.request.clone()
        };
        // Bars alone: what a conversion says is the same for all forms.
        let bars = |event: &Event<'_>| {
            if event.line().is_none() {
                show(event);
            }
        };
        let mut trial = Trial::make(&asked, &place, plugins, host, &bars)?;
        let what = format!("measuring {}", form.lut);
        let (quality, kl) = judge.judge_tokens(&mut trial.engine, &|done| {
            show(&Event::Measure { what: &what, unit: "tokens", done, total });
        })?;
        let files = trial.weight_files()?;
        let of_part = files
            .iter()
            .flat_map(|file| &file.weights)
            .filter(|weight| weight.operation != "const" && request.part.has(&weight.role));
        let (mut part_bytes, mut part_elements) = (0, 0);
        for weight in of_part {
            part_bytes += weight.bytes;
            part_elements += weight.shape.iter().product::<u64>();
        }
        let weights = files.iter().flat_map(|file| &file.weights);
        let notes: BTreeSet<&String> = weights.filter_map(|weight| weight.note.as_ref()).collect();
        let row = SweepRow {
            flags: form.flags(),
            lut: form.lut,
            bits: form.bits,
            group: form.group,
            bytes: files.iter().map(|file| file.bytes).sum(),
            part_bytes,
            part_elements,
            kl_mean: quality.kl,
            kl_p99: percentile(&kl, 0.99),
            top1_agreement: quality.top1,
            perplexity: quality.perplexity,
            front: false,
            notes: notes.into_iter().cloned().collect(),
        };
        sweep.original_perplexity = quality.original_perplexity;
        ready(&row)?;
        sweep.rows.push(row);
    }
    sweep.mark_front();
    Ok(sweep)
}

/// Every pair of bits and a group.
fn forms(request: &SweepRequest, model: &Path, output: &Path) -> Result<Vec<Form>> {
    let mut forms = Vec::new();
    let mut known = HashSet::new();
    for bits in &request.bits {
        for group in &request.groups {
            let group = group.trim();
            let lut = format!("{bits},{group}");
            if !known.insert(lut.clone()) {
                return Err(Error::new(codes::USAGE, format!("the form {lut} is asked for twice"))
                    .with_hint("name each number of bits and each group once"));
            }
            let own = request.part.flags(&lut);
            let options = own.into_iter().chain(request.quantizer.options.iter().cloned());
            let quantizer =
                QuantizerChoice { id: request.quantizer.id.clone(), options: options.collect() };
            let request = ConvertRequest {
                context: WINDOW,
                arch: request.arch.clone(),
                head: request.head,
                quantizer,
                calibration: request.calibration.clone(),
                compiler: Some(NONE.to_owned()),
                runtime: NONE.to_owned(),
                no_tokenizer: true,
                ..ConvertRequest::new(model, output)
            };
            forms.push(Form { bits: *bits, group: group.to_owned(), lut, request });
        }
    }
    match forms.len() {
        0 => Err(Error::new(codes::USAGE, "there is nothing to try: --bits or --group is empty")
            .with_hint("give some of each, such as --bits 3,4 --group 8,tensor")),
        1..=MOST => Ok(forms),
        count => Err(Error::new(
            codes::USAGE,
            format!("{count} forms are too many: a sweep tries at most {MOST}"),
        )
        .with_hint("give fewer --bits or fewer --group")),
    }
}

/// What the quantizer wants to know of the weights' inputs.
fn knowledge(
    choice: &QuantizerChoice,
    description: &ModelDescription,
    plugins: &Plugins,
) -> Result<Knowledge> {
    let Some((_, quantizer)) = choice.choose(plugins)? else {
        return Err(Error::new(
            codes::USAGE,
            "a sweep tries forms of a quantizer, and --quantizer is none",
        )
        .with_hint("leave --quantizer none out"));
    };
    Ok(quantizer.scheme(&outline(description, false))?.statistics)
}
