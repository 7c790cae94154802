//! A conversion from its beginning to its end, and what it would come to.

use crate::REPORT;
use crate::dry_run::{self, DryRun};
use crate::event::{Event, Outcome};
use crate::finish::SmallFiles;
use crate::job::{Job, refuse_missing_tokenizer};
use crate::kept::Kept;
use crate::model_files::{self, CompanionFindings, TOKENIZER, has_weights, hash_source};
use crate::model_source::{Need, Source};
use crate::packages::{self, Copies, PackageContext};
use crate::plugins::Plugins;
use crate::quantization::Quantization;
use crate::references::{self, Item, Weight};
use crate::request::{CalibrationChoice, ConvertRequest};
use crate::settings;
use crate::task;
use crate::weight_values::WeightSource;
use crate::weights::WeightJob;
use crate::work::Work;
use anemll_calibration::WeightNames;
use anemll_codes as codes;
use anemll_conversion::META;
use anemll_huggingface::{ConfigFile, ErrorKind, ModelDirectory, SentenceModel};
use anemll_plugin_api::data::{Knowledge, ModelDescription};
use anemll_plugin_api::{Error, Host, Result};
use anemll_services::{self as services, check_cancelled};
use anemll_store::{Identity, Request, Store};
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Converts a model, and tells `show` what happens. `command_line` is for meta.yaml.
///
/// # Errors
/// Whatever is wrong with the arguments, the model, the plugins or the output directory. What
/// finished before the compile step began is kept for the next run; else nothing is left behind.
pub fn run(
    arguments: &ConvertRequest,
    plugins: &Plugins,
    command_line: &str,
    show: &dyn Fn(&Event<'_>),
) -> Result<()> {
    let started = Instant::now();
    let host = services::host();
    let Outline { source, local, job: outline } = outline(arguments, plugins, &host, show)?;
    refuse_unwritable(&arguments.output)?;
    let mut told = Vec::new();
    let (directory, job) = match local {
        Some(directory) => (directory, outline),
        None => {
            let (directory, checked) = open_weights(&source, &outline, show)?;
            told.extend(checked.iter().flat_map(|found| found.warnings.clone()));
            let job = outline.with_weights(&directory, checked)?;
            (directory, job)
        }
    };
    let functions = job.lower()?;
    job.show_start(&told, show);
    let source_sha256 = match &arguments.kept {
        Some(kept) => kept.source_sha256.clone(),
        None => hash_source(&directory, show)?,
    };
    let identity = Identity::new(source_sha256.clone(), job.options.clone(), job.plugin_list()?);
    let mut small_files = SmallFiles::read(&directory, !arguments.no_tokenizer)?;
    if let (Some(bundle), Some(_)) = (&job.layout.bundle, &job.compiler) {
        small_files.add_bundle(bundle);
    }
    let copies = Copies::default();
    let mut store = Store::open(&Request {
        directory: &arguments.output,
        identity: &identity,
        force: arguments.force,
        model: Some(directory.path()),
    })?;
    if let Some(statistics) = job.quantization.as_ref().and_then(Quantization::statistics) {
        statistics.check_source(&source_sha256)?;
    }
    let steps = job.steps();
    // While bits are chosen, plans share what they have in common, and the last is what is written.
    let are_chosen = job.leaves_bits_open() && arguments.calibration != CalibrationChoice::None;
    let plans = are_chosen.then(|| Arc::new(Kept::for_plans(source_sha256.clone())));
    let done = (|| {
        let selection = steps.selection(arguments)?;
        let work = Work {
            layout: &job.layout,
            steps: &steps,
            functions: &functions,
            weights: WeightJob {
                source: WeightSource {
                    directory: &directory,
                    clamp: arguments.clamp,
                    allow_missing: arguments.allow_missing_weights,
                    kept: plans.as_ref().or(arguments.kept.as_ref()),
                },
                quantization: job.quantization.as_ref(),
                rotation: job.settings.scheme.rotation,
                needs_statistics: job.settings.scheme.needs_statistics,
                wants_products: job.settings.scheme.statistics == Knowledge::Products,
                outline: &job.settings.outline,
                host: &host,
            },
            packages: PackageContext {
                combiner: job.combiner.as_ref(),
                options: &job.options,
                source_sha256: &source_sha256,
                host: &host,
                copies: &copies,
            },
            small_files: &small_files,
            show,
            bytes: Cell::default(),
        };
        job.run_steps(&work, selection, command_line, &mut store)?;
        let report = job.report(directory.path(), &source_sha256, &store)?;
        let relative = Path::new(REPORT);
        store.write_json(relative, &report)?;
        check_cancelled()?;
        store.publish(relative)?;
        Ok(report)
    })();
    if done.as_ref().is_err_and(Error::is_cancelled) {
        store.discard();
    }
    let leftovers = store.close();
    let warnings = done.as_ref().map_or(&[][..], |report| &report.warnings);
    // The first were told before the work began.
    let told = job.description.warnings.len();
    for text in warnings.iter().skip(told).chain(&leftovers) {
        show(&Event::Warning { text });
    }
    let report = done?;
    if let Some(text) = packages::lint_line(&report.lint, &arguments.output) {
        show(&Event::Warning { text: &text });
    }
    if let Some(text) = copies.note() {
        show(&Event::Note { text: &text });
    }
    let meta = arguments.output.join(META);
    let can_chat = meta.is_file() && arguments.output.join(TOKENIZER).is_file();
    let result = if meta.is_file() { meta } else { arguments.output.clone() };
    show(&Event::Done(&Outcome {
        seconds: started.elapsed().as_secs_f64(),
        meta: &result.display().to_string(),
        output: &arguments.output.display().to_string(),
        files: job.shipped_files(&arguments.output),
        tested: if report.test.done { &report.test.message } else { "" },
        loaded_by_apple: report.test.done && job.is_apples(),
        can_chat: can_chat && job.sentence.is_none(),
        can_embed: can_chat && job.sentence.is_some(),
    }));
    Ok(())
}

/// What [`run`] would make and take, without touching anything. Of a model whose weights are not on
/// this machine, the configuration is enough.
///
/// # Errors
/// As [`run`], as far as it can be known.
pub fn dry_run(
    arguments: &ConvertRequest,
    plugins: &Plugins,
    show: &dyn Fn(&Event<'_>),
) -> Result<DryRun> {
    let host = services::host();
    let Outline { source, local, job } = outline(arguments, plugins, &host, show)?;
    dry_run::look(&job, local.as_ref(), &source, show)
}

/// The tensor of the model's files that each constant of the programs of a conversion is made from.
///
/// # Errors
/// As [`dry_run`].
pub(crate) fn weight_names(arguments: &ConvertRequest, plugins: &Plugins) -> Result<WeightNames> {
    let Named { weights, .. } = named_weights(arguments, plugins)?;
    Ok(weights.into_iter().map(|weight| (weight.id, weight.reference.tensor)).collect())
}

/// The weights of a conversion's programs.
pub(crate) struct Named {
    /// In the order in which the programs name them.
    pub(crate) weights: Vec<Weight>,
    /// What the frontend says of the model.
    pub(crate) description: ModelDescription,
}

/// The weights that the programs of a conversion are made from.
///
/// # Errors
/// As [`dry_run`].
pub(crate) fn named_weights(arguments: &ConvertRequest, plugins: &Plugins) -> Result<Named> {
    let host = services::host();
    let Outline { job, .. } = outline(arguments, plugins, &host, &|_| ())?;
    let functions = job.lower()?;
    let models: Vec<_> = functions.iter().map(|(id, one)| (id.as_str(), one.model())).collect();
    let weights = references::collect(&models)?.into_iter().filter_map(|(_, item)| match item {
        Item::Weight(weight) => Some(*weight),
        Item::Table { .. } => None,
    });
    Ok(Named { weights: weights.collect(), description: job.description })
}

/// What is known of a conversion before anything is written or downloaded.
struct Outline<'a> {
    source: Source,
    /// The weights, where they are on this machine.
    local: Option<ModelDirectory>,
    job: Job<'a>,
}

/// The configuration is looked at first: nothing else of a model is downloaded, or read, before it
/// and what depends on it are fine.
fn outline<'a>(
    arguments: &'a ConvertRequest,
    plugins: &'a Plugins,
    host: &'a Host,
    show: &dyn Fn(&Event<'_>),
) -> Result<Outline<'a>> {
    settings::check_arguments(arguments)?;
    let source = Source::open(&arguments.model, needed(arguments), show)?;
    let config = ConfigFile::read(source.directory())?;
    settings::frontend(arguments, plugins, config.text())?;
    let sentence = task::sentence_model(arguments.task, source.directory(), show)?;
    if let Some(text) = task::longer_texts(sentence.as_ref(), arguments.context) {
        show(&Event::Note { text: &text });
    }
    let local = local_weights(&source, sentence.as_ref())?;
    // What is lowered is what is hashed.
    let config = local.as_ref().map_or(&config, ModelDirectory::config_file);
    let job = Job::new(arguments, plugins, host, config, local.as_ref(), (None, sentence))?;
    let model = source.directory();
    anemll_store::refuse_conflict(&arguments.output, &job.options, arguments.force, model)?;
    Ok(Outline { source, local, job })
}

/// What of a model is needed.
fn needed(arguments: &ConvertRequest) -> Need {
    if arguments.no_tokenizer { Need::WeightsAlone } else { Need::Weights }
}

/// The weights that are on this machine, if there are any.
fn local_weights(
    source: &Source,
    sentence: Option<&SentenceModel>,
) -> Result<Option<ModelDirectory>> {
    if !source.is_whole() {
        return Ok(None);
    }
    let directory = source.directory();
    match ModelDirectory::open(directory) {
        Ok(directory) => task::with_layers(directory, sentence).map(Some),
        Err(error) if error.kind() == ErrorKind::NoWeights && !has_weights(directory) => Ok(None),
        Err(error) => Err(Error::from(error)),
    }
}

/// The weights: of a model of the hub, downloaded after the tokenizer's files, and only if the
/// packages will find room.
fn open_weights(
    source: &Source,
    outline: &Job<'_>,
    show: &dyn Fn(&Event<'_>),
) -> Result<(ModelDirectory, Option<CompanionFindings>)> {
    let arguments = outline.arguments;
    let mut checked = None;
    if !source.is_whole() {
        if !arguments.skip_check {
            dry_run::check_disk(outline, &outline.lower()?)?;
        }
        if !arguments.no_tokenizer {
            let directory = source.with(Need::Tokenizer, show)?;
            let found = model_files::check_companions(&directory)?;
            // Before some gigabytes come; the report has them again.
            for text in &found.warnings {
                show(&Event::Warning { text });
            }
            checked = Some(found);
            refuse_missing_tokenizer(&directory)?;
        }
    }
    let directory = ModelDirectory::open(source.whole(show)?)?;
    Ok((task::with_layers(directory, outline.sentence.as_ref())?, checked))
}

/// Refuses an output directory that cannot be made or written, and leaves nothing there.
fn refuse_unwritable(output: &Path) -> Result<()> {
    let failed = |source: std::io::Error| {
        let what = "cannot write to the output directory";
        anemll_store::io_error(codes::OUTPUT_UNWRITABLE, what, output, &source)
    };
    let absolute = std::path::absolute(output).map_err(failed)?;
    let there = absolute.ancestors().find(|path| path.exists());
    tempfile::tempfile_in(there.unwrap_or(&absolute)).map(drop).map_err(failed)
}
