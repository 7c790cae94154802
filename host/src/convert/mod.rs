//! `convert`: from a model directory to packages, meta.yaml and the report, in steps that are done
//! once.

mod auto;
mod dry_run;
mod finish;
pub mod lut;
mod meta;
mod packages;
pub(crate) mod references;
mod report;
mod settings;
mod statistics;
mod steps;
mod weight_record;
mod weights;
mod work;

use crate::cli::ConvertArguments;
use crate::commands::check::has_weights;
use crate::error::from_huggingface;
use crate::model_files::{self, CompanionFindings, TOKENIZER};
use crate::model_source::{self, Need, Source};
use crate::plugins::{AUTOMATIC, Plugins};
use crate::progress::{Event, Outcome, Shipped};
use crate::services::{self, check_cancelled};
use anemll_huggingface::{ConfigFile, ErrorKind, ModelDirectory};
use anemll_layout::CheckedLayout;
use anemll_mil::{Checked, Referenced};
use anemll_plugin_api::data::{ModelDescription, ModelInput, Stage};
use anemll_plugin_api::{ArchFrontend, Combiner, Compiler, Error, Host, Result, Runtime, codes};
use anemll_store::{Identity, Request, StepRecord, Store};
use finish::{SmallFiles, shipped};
use packages::{Copies, PackageContext, relative_path};
use report::{PluginReport, Report, StepReport};
use serde_json::Value;
use settings::Settings;
use std::cell::Cell;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;
use steps::{Selection, Steps, Task, Workers};
use weight_record::WeightRecord;
use weights::{Quantization, WeightJob};
use work::Work;

/// Name of the report in the output directory.
pub const REPORT: &str = "anemll-report.json";
/// Name of the file by which chat programs find everything.
const META: &str = "meta.yaml";
/// Our own runtime, which is the same on every system.
const CPU: &str = "cpu";
/// What `--compiler` and `--runtime` are to leave their step out.
const NONE: &str = "none";

pub use settings::without_run_flags;

/// Runs the command, and tells `show` what happens.
///
/// # Errors
/// Whatever is wrong with the arguments, the model, the plugins or the output directory. What
/// finished before the compile step began is kept for the next run; else nothing is left behind.
pub fn run(
    arguments: &ConvertArguments,
    plugins: &Plugins,
    command_line: &str,
    show: &dyn Fn(&Event<'_>),
) -> Result<()> {
    let started = Instant::now();
    let host = services::host();
    settings::check_arguments(arguments)?;
    let need = if arguments.no_tokenizer { Need::WeightsAlone } else { Need::Weights };
    let source = Source::open(&arguments.model, need, show)?;
    let config = ConfigFile::read(source.directory()).map_err(from_huggingface)?;
    // The configuration is looked at first: nothing else of a model is downloaded, or read, before
    // it and what depends on it are fine.
    plugins.frontend(config.text(), arguments.arch.as_deref())?;
    let local = local_weights(&source)?;
    // What is lowered is what is hashed.
    let config = local.as_ref().map_or(&config, ModelDirectory::config_file);
    let outline = Job::new(arguments, plugins, &host, config, local.as_ref(), None)?;
    let (output, model) = (&arguments.output, source.directory());
    anemll_store::refuse_conflict(output, &outline.options, arguments.force, model)?;
    if arguments.dry_run {
        return dry_run::run(&outline, local.as_ref(), &source, show);
    }
    refuse_unwritable(output)?;
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
    let source_sha256 = hash_source(&directory, show)?;
    let identity = Identity::new(source_sha256.clone(), job.options.clone(), job.plugin_list()?);
    let small_files = SmallFiles::read(&directory, !arguments.no_tokenizer)?;
    let copies = Copies::default();
    let mut store = Store::open(&Request {
        directory: &arguments.output,
        identity: &identity,
        force: arguments.force,
        model: Some(directory.path()),
    })?;
    let done = job.steps().and_then(|steps| {
        let selection = steps.selection(arguments)?;
        let work = Work {
            layout: &job.layout,
            steps: &steps,
            functions: &functions,
            weights: WeightJob {
                directory: &directory,
                clamp: arguments.clamp,
                allow_missing: arguments.allow_missing_weights,
                quantization: job.quantization.as_ref(),
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
    });
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
        can_chat,
    }));
    Ok(())
}

/// Everything that a conversion is made from, before anything is written.
struct Job<'a> {
    arguments: &'a ConvertArguments,
    plugins: &'a Plugins,
    host: &'a Host,
    model_name: String,
    arch: String,
    frontend: Box<dyn ArchFrontend>,
    input: ModelInput,
    description: ModelDescription,
    settings: Settings,
    /// Why the combiner and its chunks were chosen, where the user left it open.
    choice: Option<String>,
    combiner: Box<dyn Combiner>,
    quantization: Option<Quantization>,
    layout: CheckedLayout,
    options: Value,
    compiler_id: String,
    compiler: Option<Box<dyn Compiler>>,
    runtime: Option<Box<dyn Runtime>>,
}

impl<'a> Job<'a> {
    /// All that can be known of a conversion from the configuration, and from the other files of
    /// the model where they are there. `checked`: what was found of the tokenizer's files, if they
    /// were looked at already.
    fn new(
        arguments: &'a ConvertArguments,
        plugins: &'a Plugins,
        host: &'a Host,
        config: &ConfigFile,
        directory: Option<&ModelDirectory>,
        checked: Option<CompanionFindings>,
    ) -> Result<Self> {
        let (arch, frontend) = plugins.frontend(config.text(), arguments.arch.as_deref())?;
        let (compiler_id, compiler) = match arguments.compiler.as_deref().unwrap_or(AUTOMATIC) {
            NONE => (NONE.to_owned(), None),
            id => {
                let id = plugins.compiler_id(id)?;
                let compiler = plugins.compiler(&id)?;
                (id, Some(compiler))
            }
        };
        let runtime = match arguments.runtime.as_str() {
            NONE => None,
            id => Some(plugins.runtime(id)?),
        };
        let input = settings::model_input(arguments, config.value(), directory);
        let description = match directory {
            Some(directory) => describe(arguments, frontend.as_ref(), &input, directory, checked)?,
            None => frontend.describe(&input)?,
        };
        let model = auto::Model {
            frontend: frontend.as_ref(),
            input: &input,
            description: &description,
            host,
            inventory: OnceCell::new(),
        };
        let (settings, choice) = auto::settings(arguments, plugins, &model)?;
        let combiner = plugins.combiner(&settings.combiner)?;
        let quantization = settings::quantization(arguments, &settings.luts, plugins)?;
        let quantization =
            statistics::attach(quantization, arguments.statistics.as_deref(), directory)?;
        let mut layout = combiner.layout(&description, &settings.layout_options(arguments))?;
        layout.meta.extend(settings.luts.group_keys());
        let layout = CheckedLayout::new(layout)?;
        let mut options = settings.options_json(arguments);
        if let Some(sha256) = quantization.as_ref().and_then(Quantization::statistics_sha256) {
            options["statistics_sha256"] = Value::from(sha256);
        }
        Ok(Self {
            options,
            model_name: model_name(config),
            arguments,
            plugins,
            host,
            arch,
            frontend,
            input,
            description,
            settings,
            choice,
            combiner,
            quantization,
            layout,
            compiler_id,
            compiler,
            runtime,
        })
    }

    /// The same conversion, with the names and shapes of its weights known.
    fn with_weights(
        &self,
        directory: &ModelDirectory,
        checked: Option<CompanionFindings>,
    ) -> Result<Self> {
        let config = directory.config_file();
        Self::new(self.arguments, self.plugins, self.host, config, Some(directory), checked)
    }

    /// What an app loads, as it is in the output directory.
    fn shipped_files(&self, directory: &Path) -> Vec<Shipped> {
        let packages = shipped(&self.layout).map(packages::relative_path);
        packages
            .filter_map(|package| {
                let compiled = package.with_extension("mlmodelc");
                let compiled = Some(compiled).filter(|path| directory.join(path).is_dir());
                let path = compiled.as_ref().unwrap_or(&package);
                Some(Shipped {
                    name: path.to_string_lossy().replace('\\', "/"),
                    bytes: finish::size(&directory.join(path)).ok()?,
                    compiled: compiled.is_some(),
                })
            })
            .collect()
    }

    /// Whether the test step ran on Apple's own system.
    fn is_apples(&self) -> bool {
        cfg!(target_vendor = "apple") && ![NONE, CPU].contains(&self.arguments.runtime.as_str())
    }

    /// Tells what is converted, and what there is to know but `told`.
    fn show_start(&self, told: &[String], show: &dyn Fn(&Event<'_>)) {
        show(&Event::Started {
            model: &self.model_name,
            architecture: &self.description.architecture,
            arch: &self.arch,
            layers: self.description.layers,
            parameters: self.description.parameters,
            packages: shipped(&self.layout).count(),
            combiner: &self.settings.combiner,
            context: self.description.context,
            batch: self.description.batch,
        });
        for text in self.notes() {
            show(&Event::Note { text: &text });
        }
        for text in self.description.warnings.iter().filter(|text| !told.contains(text)) {
            show(&Event::Warning { text });
        }
    }

    /// What a user should know before the work begins.
    fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self.choice.iter().cloned().collect();
        if self.quantization.as_ref().is_none_or(|stage| stage.id == settings::LUT_QUANTIZER) {
            let typed = if self.arguments.luts.is_typed() {
                String::new()
            } else {
                let whole = self.settings.combiner == settings::WHOLE_COMBINER;
                let scripts = lut::Luts::flags_of_scripts(whole);
                format!(" (ANEMLL's bits: {scripts}; 16-bit floats: --lut none)")
            };
            notes.push(format!("weights: {}{typed}", self.settings.luts.summary()));
        }
        notes.extend(self.description.notes.iter().cloned());
        notes
    }

    fn steps(&self) -> Result<Steps<'_>> {
        Steps::new(&self.layout)
    }

    /// Every function of the layout, lowered and checked.
    fn lower(&self) -> Result<BTreeMap<String, Checked<Referenced>>> {
        let mut functions = BTreeMap::new();
        for function in &self.layout.functions {
            check_cancelled()?;
            let bytes = self.frontend.lower(&self.input, function, self.host)?;
            let model = coreml_proto::read_model(&bytes).map_err(|source| {
                Error::new(
                    codes::GRAPH_INVALID,
                    format!(
                        "the frontend `{}` gave no valid model for `{}`: {source}",
                        self.arch, function.id
                    ),
                )
            })?;
            let checked = anemll_mil::validate_referenced(model)
                .map_err(|source| graph_error(&self.arch, &function.id, &source))?;
            functions.insert(function.id.clone(), checked);
        }
        Ok(functions)
    }

    fn components(&self) -> Vec<(Stage, &str)> {
        let mut components = vec![
            (Stage::Arch, self.arch.as_str()),
            (Stage::Combiner, self.settings.combiner.as_str()),
        ];
        components
            .extend(self.quantization.as_ref().map(|stage| (Stage::Quantizer, stage.id.as_str())));
        components
    }

    /// The plugins that decide the bytes of the packages.
    fn plugin_list(&self) -> Result<Value> {
        let identities = self
            .components()
            .into_iter()
            .map(|(stage, id)| self.plugins.identity(stage, id))
            .collect::<Result<Vec<_>>>()?;
        Ok(Value::Array(identities))
    }

    fn run_steps(
        &self,
        work: &Work<'_>,
        selection: Selection,
        command_line: &str,
        store: &mut Store,
    ) -> Result<()> {
        let workers = self.workers(work.small_files);
        let selected = work.steps.to_run(selection, store.view(), workers)?;
        // Before any work: what the steps will make takes the place of nothing that is not ours.
        let outputs = self.outputs(work.steps, &selected, work.small_files, |step, made| {
            store.adopt(step, made)
        })?;
        store.refuse_foreign(&outputs)?;
        let writes = selected.iter().any(|number| work.steps.task(*number) == Task::Packages);
        if writes && !self.arguments.skip_check {
            dry_run::check_disk(self, work.functions)?;
        }
        work.expect(&selected)?;
        for step in work.steps.iter() {
            if !selected.contains(&step.number) {
                if selection == Selection::Unfinished {
                    (work.show)(&Event::Step {
                        number: step.number,
                        title: &step.title,
                        message: "is finished",
                    });
                }
                continue;
            }
            check_cancelled()?;
            store.begin(step.number)?;
            let task = work.steps.task(step.number);
            if matches!(task, Task::Compile | Task::Test) {
                // What fails from here on is mended elsewhere than in the model or the options.
                store.keep();
            }
            let demanded = selection == Selection::Only(step.number);
            let mut inputs = String::new();
            let (outputs, packages, by, outcome) = match task {
                Task::Packages => {
                    let (outputs, packages) = work.run(step.number, store)?;
                    (outputs, packages, "", StepReport { done: true, message: String::new() })
                }
                Task::Compile => {
                    let demanded = demanded || self.arguments.compiler.is_some();
                    let (outputs, outcome) = match &self.compiler {
                        Some(compiler) => finish::compile(
                            &self.compiler_id,
                            compiler.as_ref(),
                            demanded,
                            &self.layout,
                            store,
                            self.host,
                        )?,
                        None => (Vec::new(), StepReport::left_out("--compiler none")),
                    };
                    (outputs, Vec::new(), self.compiler_id.as_str(), outcome)
                }
                Task::Files => {
                    let directory = work.weights.directory.path();
                    let meta = self.meta(directory, command_line, work.packages.source_sha256)?;
                    let outputs = work.small_files.write(store, &meta, &self.layout)?;
                    inputs = work.small_files.fingerprint();
                    let outcome = StepReport { done: true, message: String::new() };
                    (outputs, Vec::new(), "", outcome)
                }
                Task::Test => {
                    let (outputs, packages) = work.run(step.number, store)?;
                    (outputs, packages, workers.runtime, self.test(store)?)
                }
            };
            (work.show)(&Event::Step {
                number: step.number,
                title: &step.title,
                message: &outcome.message,
            });
            let record = StepRecord {
                number: step.number,
                outputs: BTreeMap::new(),
                packages: packages::to_record(&packages)?,
                by: by.to_owned(),
                inputs,
                done: outcome.done,
                message: outcome.message,
            };
            store.finish_step(record, &outputs)?;
        }
        Ok(())
    }

    fn workers<'b>(&'b self, small_files: &'b SmallFiles) -> Workers<'b> {
        Workers {
            compiler: &self.compiler_id,
            runtime: self.arguments.runtime.as_str(),
            small_files,
        }
    }

    /// What these steps make, of each of which `adopt` hears, and the report.
    fn outputs(
        &self,
        steps: &Steps<'_>,
        numbers: &[u32],
        small_files: &SmallFiles,
        mut adopt: impl FnMut(u32, &[PathBuf]) -> Result<()>,
    ) -> Result<Vec<PathBuf>> {
        // What a compiler would make that cannot run here is in nobody's way.
        let check = self.compiler.as_ref().map(|compiler| compiler.check());
        let compiles = check.is_some_and(|check| check.is_ok_and(|answer| answer.available));
        let mut outputs = vec![PathBuf::from(REPORT)];
        for number in numbers {
            let made = steps.outputs(*number, compiles, small_files);
            adopt(*number, &made)?;
            outputs.extend(made);
        }
        Ok(outputs)
    }

    fn meta(&self, directory: &Path, command_line: &str, source_sha256: &str) -> Result<String> {
        // A broken file recommends nothing; the job has told of it.
        let (generation, _) = model_files::generation(directory);
        let source = meta::Source {
            generation: &generation,
            model_name: &self.model_name,
            description: &self.description,
            layout: &self.layout,
            command_line,
            sha256: source_sha256,
        };
        meta::meta_yaml(&source)
    }

    fn test(&self, store: &Store) -> Result<StepReport> {
        match &self.runtime {
            Some(runtime) => {
                finish::test(runtime.as_ref(), &self.layout, store, &self.description, self.host)
            }
            None => Ok(StepReport::left_out("--runtime none")),
        }
    }

    /// The report of all that is finished.
    fn report(&self, directory: &Path, source_sha256: &str, store: &Store) -> Result<Report> {
        let steps = self.steps()?;
        let step_report = |task: Task| {
            let record = store.view().records().find(|record| steps.task(record.number) == task);
            record.map_or_else(StepReport::default, |record| StepReport {
                done: record.done,
                message: record.message.clone(),
            })
        };
        let mut weight_files = Vec::new();
        for file in &self.layout.weight_files {
            let path = store.view().locate(&weight_record::relative_path(&file.id));
            if path.is_file() {
                weight_files.push(WeightRecord::read(&path)?.report);
            }
        }
        let packages: Vec<_> = store.view().records().flat_map(packages::of_record).collect();
        let mut warnings = self.description.warnings.clone();
        warnings.extend(weight_files.iter().flat_map(report::WeightFileReport::warnings));
        let ships: Vec<String> = shipped(&self.layout)
            .map(|package| relative_path(package).to_string_lossy().replace('\\', "/"))
            .collect();
        let lint = packages::lint_summary(packages.iter().filter(|one| ships.contains(&one.path)));
        let workers = [
            (Stage::Compiler, self.compiler_id.as_str()),
            (Stage::Runtime, self.arguments.runtime.as_str()),
        ];
        let plugins = self
            .components()
            .into_iter()
            .chain(workers.into_iter().filter(|(_, id)| *id != NONE))
            .map(|(stage, id)| {
                Ok(PluginReport {
                    stage: stage.name().to_owned(),
                    id: id.to_owned(),
                    version: self.plugins.version(stage, id)?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Report {
            schema: report::SCHEMA,
            anemll: env!("CARGO_PKG_VERSION").to_owned(),
            options: self.options.clone(),
            source_sha256: source_sha256.to_owned(),
            source: anemll_export::SourceCard::read(directory),
            arch: self.arch.clone(),
            model: self.description.clone(),
            plugins,
            weight_files,
            packages,
            warnings,
            lint,
            compile: step_report(Task::Compile),
            test: step_report(Task::Test),
        })
    }
}

/// What the frontend says of a model whose files are there, and what is to be said of the files.
fn describe(
    arguments: &ConvertArguments,
    frontend: &dyn ArchFrontend,
    input: &ModelInput,
    directory: &ModelDirectory,
    checked: Option<CompanionFindings>,
) -> Result<ModelDescription> {
    let mut description = model_files::describe(frontend, input, directory)?;
    if !arguments.no_tokenizer {
        let found = match checked {
            Some(found) => found,
            None => model_files::check_companions(directory.path())?,
        };
        refuse_missing_tokenizer(directory.path())?;
        description.notes.extend(found.notes);
        description.warnings.extend(found.warnings);
    }
    Ok(description)
}

/// The weights that are on this machine, if there are any.
fn local_weights(source: &Source) -> Result<Option<ModelDirectory>> {
    if !source.is_whole() {
        return Ok(None);
    }
    let directory = source.directory();
    match ModelDirectory::open(directory) {
        Ok(directory) => Ok(Some(directory)),
        Err(error) if error.kind() == ErrorKind::NoWeights && !has_weights(directory) => Ok(None),
        Err(error) => Err(from_huggingface(error)),
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
    let directory = ModelDirectory::open(source.whole(show)?).map_err(from_huggingface)?;
    Ok((directory, checked))
}

/// Refuses an output directory that cannot be made or written, and leaves nothing there.
fn refuse_unwritable(output: &Path) -> Result<()> {
    let failed = |source: std::io::Error| {
        let what = "cannot write to the output directory";
        crate::error::io(codes::OUTPUT_UNWRITABLE, what, output, &source)
    };
    let absolute = std::path::absolute(output).map_err(failed)?;
    let there = absolute.ancestors().find(|path| path.exists());
    tempfile::tempfile_in(there.unwrap_or(&absolute)).map(drop).map_err(failed)
}

/// A conversion without a tokenizer is of no use to an app.
fn refuse_missing_tokenizer(directory: &Path) -> Result<()> {
    if directory.join(TOKENIZER).is_file() {
        return Ok(());
    }
    let others: Vec<&str> = ["tokenizer.model", "vocab.json", "merges.txt"]
        .into_iter()
        .filter(|name| directory.join(name).is_file())
        .collect();
    let has = if others.is_empty() {
        String::new()
    } else {
        format!("; it has {}, from which transformers makes one", others.join(" and "))
    };
    Err(Error::new(
        codes::TOKENIZER_MISSING,
        format!("the model directory has no {TOKENIZER}{has}"),
    )
    .with_at(directory.display().to_string())
    .with_hint(
        "looked for: tokenizer.json (needed), and to be copied with it tokenizer_config.json, \
         special_tokens_map.json, generation_config.json and the chat template; download them, or \
         convert without them: --no-tokenizer",
    ))
}

fn model_name(config: &ConfigFile) -> String {
    model_source::model_name(config.path().parent().unwrap_or(Path::new("")))
}

fn graph_error(arch: &str, function: &str, source: &anemll_mil::Error) -> Error {
    Error::new(
        codes::GRAPH_INVALID,
        format!("the frontend `{arch}` gave an invalid program for `{function}`: {source}"),
    )
    .with_hint("this is an error of the arch plugin")
}

fn hash_source(directory: &ModelDirectory, show: &dyn Fn(&Event<'_>)) -> Result<String> {
    let progress = |done, total| {
        show(&Event::Source { done, total });
        check_cancelled().is_ok()
    };
    directory.source_sha256(progress).map_err(from_huggingface)
}
