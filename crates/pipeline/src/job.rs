//! `convert`: from a model directory to packages, meta.yaml and the report, in steps that are done
//! once.

use crate::REPORT;
use crate::event::{Event, Shipped};
use crate::finish::SmallFiles;
use crate::model_files::{self, CompanionFindings, OpenModel, TOKENIZER};
use crate::model_source::{self};
use crate::packages::relative_path;
use crate::plugins::{AUTOMATIC, Plugins};
use crate::quantization::Quantization;
use crate::report::{PluginReport, Report, StepReport};
use crate::request::{CPU, CalibrationChoice, ConvertRequest, NONE};
use crate::settings::Settings;
use crate::steps::{Steps, Task, Workers};
use crate::weight_record::WeightRecord;
use crate::{
    auto, built_in_text, bundle, component_options, far, finish, meta, packages, report, settings,
    statistics, task, weight_record,
};
use anemll_calibration::Quality;
use anemll_codes as codes;
use anemll_conversion::{Description, shipped};
use anemll_huggingface::{ConfigFile, ModelDirectory, SentenceModel};
use anemll_layout::CheckedLayout;
use anemll_mil::{Checked, Referenced};
use anemll_plugin_api::data::{Joined, Knowledge, ModelDescription, Stage};
use anemll_plugin_api::{ArchModel, Combiner, Compiler, Error, Host, Result, Runtime};
use anemll_services::check_cancelled;
use anemll_store::Store;
use serde_json::Value;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Everything that a conversion is made from, before anything is written.
pub(crate) struct Job<'a> {
    pub(crate) arguments: &'a ConvertRequest,
    pub(crate) plugins: &'a Plugins,
    pub(crate) host: &'a Host,
    pub(crate) model_name: String,
    pub(crate) arch: String,
    pub(crate) model: Box<dyn ArchModel>,
    pub(crate) description: ModelDescription,
    /// What follows the model, where it is converted for vectors.
    pub(crate) sentence: Option<SentenceModel>,
    pub(crate) settings: Settings,
    /// Why the combiner and its chunks were chosen, where the user left it open.
    pub(crate) choice: Option<String>,
    pub(crate) combiner: Box<dyn Combiner>,
    pub(crate) quantization: Option<Quantization>,
    pub(crate) layout: CheckedLayout,
    pub(crate) options: Value,
    pub(crate) compiler_id: String,
    pub(crate) compiler: Option<Box<dyn Compiler>>,
    /// What the compiler makes, where that is one model of all packages.
    pub(crate) joined: Option<Joined>,
    pub(crate) runtime: Option<Box<dyn Runtime>>,
}

impl<'a> Job<'a> {
    /// All that can be known of a conversion from the configuration, and from the other files of
    /// the model where they are there. `checked`: what was found of the tokenizer's files, if they
    /// were looked at already. `sentence`: what follows the model, where it is converted for vectors.
    pub(crate) fn new(
        arguments: &'a ConvertRequest,
        plugins: &'a Plugins,
        host: &'a Host,
        config: &ConfigFile,
        directory: Option<&ModelDirectory>,
        (checked, sentence): (Option<CompanionFindings>, Option<SentenceModel>),
    ) -> Result<Self> {
        let (arch, frontend) = settings::frontend(arguments, plugins, config.text())?;
        let runtime = match arguments.runtime.as_str() {
            NONE => None,
            id => {
                let options = arguments.options_of(plugins, Stage::Runtime, id);
                Some(plugins.runtime_with(id, &options)?)
            }
        };
        let input = settings::model_input(arguments, config.value(), directory, sentence.as_ref());
        let OpenModel { model, mut description } =
            model_files::open(frontend.as_ref(), &input, directory, arguments.head, host)?;
        task::check_frontend(sentence.is_some(), &arch, &description)?;
        if let Some(directory) = directory {
            add_companions(arguments, directory, checked, &mut description)?;
        }
        let quantization = settings::quantization(arguments, plugins, directory)?;
        let opened = auto::Model {
            model: model.as_ref(),
            description: &description,
            host,
            quantization: quantization.as_ref(),
            inventory: OnceCell::new(),
        };
        let (settings, choice) = auto::settings(arguments, plugins, &opened)?;
        let combiner = plugins.combiner(&settings.combiner, &settings.options)?;
        let layout = combiner.layout(&description, &settings.layout_request(arguments))?;
        let layout = CheckedLayout::new(layout)?;
        task::check_combiner(&settings.combiner, &description, &layout)?;
        let (compiler_id, compiler, joins) =
            match bundle::compiler(arguments, &layout)?.unwrap_or(AUTOMATIC) {
                NONE => (NONE.to_owned(), None, false),
                id => {
                    let id = plugins.compiler_id(id)?;
                    let options = arguments.options_of(plugins, Stage::Compiler, &id);
                    let compiler = plugins.compiler_with(&id, &options)?;
                    let joins = plugins.does_join(&id, &options);
                    (id, Some(compiler), joins)
                }
            };
        let joined = if joins { anemll_conversion::joined(&layout) } else { None };
        let mut chain = vec![(Stage::Arch, arch.as_str()), (Stage::Combiner, &settings.combiner)];
        chain.extend(quantization.as_ref().map(|stage| (Stage::Quantizer, stage.id.as_str())));
        chain.extend(compiler.as_ref().map(|_| (Stage::Compiler, compiler_id.as_str())));
        chain.extend(runtime.as_ref().map(|_| (Stage::Runtime, arguments.runtime.as_str())));
        component_options::refuse_others(&arguments.quantizer.options, &chain)?;
        let quantization = quantization.filter(|_| !settings.scheme.idle);
        if quantization.is_none() && matches!(arguments.calibration, CalibrationChoice::File(_)) {
            return Err(statistics::for_nobody());
        }
        let mut options = settings.options_json(arguments)?;
        if let Some(sentence) = &sentence {
            options["embedding"] = task::options(sentence);
        }
        if let Some(sha256) = quantization.as_ref().and_then(Quantization::statistics_sha256) {
            options["statistics_sha256"] = Value::from(sha256);
        }
        let scheme = &settings.scheme;
        let calibrates = quantization.is_some()
            && scheme.statistics != Knowledge::Nothing
            && arguments.calibration == CalibrationChoice::Auto
            && !arguments.no_tokenizer
            && sentence.is_none();
        if calibrates {
            options["calibration"] = Value::from(built_in_text::identity(description.parameters));
        }
        if quantization.is_some() && scheme.open && sentence.is_none() {
            options["bits"] = Value::from(arguments.goal.to_string());
        }
        Ok(Self {
            options,
            model_name: model_name(config),
            arguments,
            plugins,
            host,
            arch,
            model,
            description,
            sentence,
            settings,
            choice,
            combiner,
            quantization,
            layout,
            compiler_id,
            compiler,
            joined,
            runtime,
        })
    }

    /// The same conversion, with the names and shapes of its weights known.
    pub(crate) fn with_weights(
        &self,
        directory: &ModelDirectory,
        checked: Option<CompanionFindings>,
    ) -> Result<Self> {
        let config = directory.config_file();
        let known = (checked, self.sentence.clone());
        Self::new(self.arguments, self.plugins, self.host, config, Some(directory), known)
    }

    /// The ending of what the compiler makes.
    pub(crate) fn compiled_ending(&self) -> String {
        self.plugins.compiled_ending(&self.compiler_id)
    }

    /// What an app loads, as it is in the output directory.
    pub(crate) fn shipped_files(&self, directory: &Path) -> Vec<Shipped> {
        let shown = |path: &Path, compiled: bool| {
            let name = path.to_string_lossy().replace('\\', "/");
            Some(Shipped { name, bytes: finish::size(&directory.join(path)).ok()?, compiled })
        };
        let compiled = |path: PathBuf| Some(path).filter(|path| directory.join(path).is_dir());
        let joined = self.joined.as_ref().and_then(|joined| {
            compiled(finish::compiled_name(&joined.name, &self.compiled_ending()).into())
        });
        if let Some(path) = joined {
            return shown(&path, true).into_iter().collect();
        }
        let packages = shipped(&self.layout).map(packages::relative_path);
        packages
            .filter_map(|package| match compiled(package.with_extension(self.compiled_ending())) {
                Some(path) => shown(&path, true),
                None => shown(&package, false),
            })
            .collect()
    }

    /// Whether the test step ran on Apple's own system.
    pub(crate) fn is_apples(&self) -> bool {
        cfg!(target_vendor = "apple") && ![NONE, CPU].contains(&self.arguments.runtime.as_str())
    }

    pub(crate) fn show_start(&self, told: &[String], show: &dyn Fn(&Event<'_>)) {
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
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self.choice.iter().cloned().collect();
        let scheme = &self.settings.scheme;
        let weights = match scheme.open && self.sentence.is_some() {
            true => {
                "the quantizer's usual bits, unmeasured: vectors have no judge (all bits: --lut none)"
            }
            false => scheme.summary.as_str(),
        };
        if !weights.is_empty() {
            notes.push(format!("weights: {}", anemll_terminal::plain(weights)));
        }
        notes.extend(self.description.notes.iter().cloned());
        notes
    }

    pub(crate) fn steps(&self) -> Steps<'_> {
        let ending = self.compiled_ending();
        let compiled = match &self.joined {
            Some(joined) => vec![finish::compiled_name(&joined.name, &ending)],
            None => shipped(&self.layout)
                .map(|package| finish::compiled_name(&package.stem, &ending))
                .collect(),
        };
        Steps::new(&self.layout, compiled)
    }

    /// Every function of the layout, lowered and checked.
    pub(crate) fn lower(&self) -> Result<BTreeMap<String, Checked<Referenced>>> {
        let mut functions = BTreeMap::new();
        for function in &self.layout.functions {
            check_cancelled()?;
            let bytes = self.model.lower(function, self.host)?;
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

    pub(crate) fn components(&self) -> Vec<(Stage, &str)> {
        let mut components = vec![
            (Stage::Arch, self.arch.as_str()),
            (Stage::Combiner, self.settings.combiner.as_str()),
        ];
        components
            .extend(self.quantization.as_ref().map(|stage| (Stage::Quantizer, stage.id.as_str())));
        components
    }

    /// The plugins that decide the bytes of the packages.
    pub(crate) fn plugin_list(&self) -> Result<Value> {
        let identities = self
            .components()
            .into_iter()
            .map(|(stage, id)| self.plugins.identity(stage, id))
            .collect::<Result<Vec<_>>>()?;
        Ok(Value::Array(identities))
    }

    pub(crate) fn workers<'b>(&'b self, small_files: &'b SmallFiles) -> Workers<'b> {
        Workers {
            compiler: &self.compiler_id,
            runtime: self.arguments.runtime.as_str(),
            small_files,
        }
    }

    /// What these steps make, of each of which `adopt` hears, and the report.
    pub(crate) fn outputs(
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

    /// What is in the conversion and how it is run.
    pub(crate) fn run_description(
        &self,
        functions: &BTreeMap<String, Checked<Referenced>>,
    ) -> Result<Description> {
        let run = &self.layout.run;
        let mut outputs = Vec::new();
        for call in [run.infer.last(), run.evaluate.last()].into_iter().flatten() {
            let function = anemll_layout::called(&self.layout, call);
            let Some(function) = function.and_then(|id| functions.get(id)) else { continue };
            let interface = anemll_mil::interface(function.model())
                .map_err(|source| graph_error(&self.arch, &call.function, &source))?;
            let found = interface.into_iter().flat_map(|function| function.outputs);
            outputs.extend(found.map(|output| output.name));
        }
        outputs.dedup();
        let outputs = outputs.iter().map(String::as_str);
        let mut description = Description::of_layout(&self.layout, &self.description, outputs);
        description.joined = anemll_conversion::joined(&self.layout);
        if let Some(sentence) = &self.sentence {
            description.embedding = task::embedding(&self.description, sentence);
        }
        Ok(description)
    }

    pub(crate) fn meta(
        &self,
        directory: &Path,
        command_line: &str,
        source_sha256: &str,
        quality: Option<Quality>,
    ) -> Result<String> {
        // A broken file recommends nothing; the job has told of it.
        let (generation, _) = model_files::generation(directory);
        let source = meta::Source {
            generation: &generation,
            model_name: &self.model_name,
            description: &self.description,
            layout: &self.layout,
            sentence: self.sentence.as_ref(),
            command_line,
            sha256: source_sha256,
            quality,
        };
        meta::meta_yaml(&source)
    }

    /// The report of all that is finished.
    pub(crate) fn report(
        &self,
        directory: &Path,
        source_sha256: &str,
        store: &Store,
    ) -> Result<Report> {
        let steps = self.steps();
        let step_report = |task: Task| {
            let record = store.view().records().find(|record| steps.task(record.number) == task);
            record.map_or_else(StepReport::default, |record| StepReport {
                done: record.done,
                message: record.message.clone(),
                quality: serde_json::from_value(record.findings["quality"].clone()).ok(),
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
        let test = step_report(Task::Test);
        warnings.extend(test.quality.as_ref().and_then(far::warning));
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
            test,
        })
    }
}

/// Adds to the description of a model what is to be said of the files beside its weights.
fn add_companions(
    arguments: &ConvertRequest,
    directory: &ModelDirectory,
    checked: Option<CompanionFindings>,
    description: &mut ModelDescription,
) -> Result<()> {
    if !arguments.no_tokenizer {
        let found = match checked {
            Some(found) => found,
            None => model_files::check_companions(directory.path())?,
        };
        refuse_missing_tokenizer(directory.path())?;
        description.notes.extend(found.notes);
        description.warnings.extend(found.warnings);
    }
    Ok(())
}

/// A conversion without a tokenizer is of no use to an app.
pub(crate) fn refuse_missing_tokenizer(directory: &Path) -> Result<()> {
    if directory.join(TOKENIZER).is_file() {
        return Ok(());
    }
    if let Some((reason, hint)) = anemll_huggingface::missing_tokenizer(directory) {
        return Err(Error::new(codes::TOKENIZER_MISSING, "the tokenizer cannot be rebuilt")
            .with_at(directory.display().to_string())
            .with_cause(reason)
            .with_hint(hint));
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
    .with_hint("this is a bug in the arch plugin; please report it to its author")
}
