//! `export`: a conversion as it is handed over.

use crate::error::from_export;
use crate::progress::shell_path;
use anemll_codes as codes;
use anemll_conversion::{Conversion, Description, FILE, META};
use anemll_export::{Compression, Exported, Forms, Request, SourceCard};
use anemll_pipeline::model_source::{self, HubEnvironment, Need};
use anemll_plugin_api::{Error, Result};
use anemll_services::check_cancelled;
use anemll_terminal::{self as terminal, Column, Table};
use clap::Args;
use std::path::{Path, PathBuf};

/// What is shown below the help.
pub const EXAMPLES: &str = "Examples:
  anemll export out --to release
  anemll export out --to release-all --ios --zip --package
  anemll export out --to release --upload anemll/anemll-SmolLM2-135M --force

DIR then holds ios/ (compiled models as folders, for apps) or, with --zip, standard/ (each in a zip,
as ANEMLL's prepare_hf.sh names them), a model card (README.md), and release.json with the size and
SHA-256 of every file. With neither --ios nor --zip it is ios/. Models are shared with OUT by hard
links where the file system can: never change one in place.";

/// What can be typed.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// Output directory of a conversion, by anemll or by ANEMLL, with its compiled models.
    #[arg(value_name = "OUT")]
    pub conversion: PathBuf,
    /// Directory for the export; created if it does not exist.
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Compiled models as folders, in ios/ (default unless --zip is given).
    #[arg(long)]
    pub ios: bool,
    /// Each compiled model in a .mlmodelc.zip, in standard/.
    #[arg(long)]
    pub zip: bool,
    /// Also the packages (.mlpackage), from which newer chips can compile anew.
    #[arg(long)]
    pub package: bool,
    /// Compress what is in zips; palettized weights shrink by some 3 %.
    #[arg(long, requires = "zip")]
    pub deflate: bool,
    /// Copy the models instead of sharing their files with OUT.
    #[arg(long)]
    pub copy: bool,
    /// The original model, for the card: its directory, or its name on the hub.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<PathBuf>,
    /// Licence of the original model, for the card, such as apache-2.0.
    #[arg(long, value_name = "ID")]
    pub license: Option<String>,
    /// Print the command that uploads the export to this repository of the hub; uploads nothing.
    #[arg(long, value_name = "ORG/NAME")]
    pub upload: Option<String>,
    /// Replace an export that is in DIR: the files that its release.json lists, and no others.
    #[arg(long)]
    pub force: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// The conversion is not finished or not compiled, the directory cannot take the export, or
/// something cannot be read or written.
pub fn run(arguments: &ExportArguments) -> Result<()> {
    if let Some(name) = &arguments.upload
        && !anemll_export::is_repository(name)
    {
        return Err(Error::new(
            codes::USAGE,
            format!("--upload {name}: a repository of the hub is named ORGANIZATION/NAME"),
        ));
    }
    let conversion = directory(&arguments.conversion);
    let meta = conversion.join(META);
    // The crate says what is missing, where this is.
    let read = if meta.is_file() { Some(Conversion::read(&meta)?) } else { None };
    let described = read.as_ref().map(|read| &read.description);
    let models: Vec<String> =
        described.iter().flat_map(|one| one.models()).map(str::to_owned).collect();
    // What was made without a description needs none.
    let own = read.as_ref().filter(|read| read.source().ends_with(FILE));
    let description = own.map(|read| described_copy(&read.description)).transpose()?;
    let request = Request {
        conversion: &conversion,
        models: &models,
        description: description.as_ref().map(|bytes| (FILE, bytes.as_slice())),
        target: &arguments.to,
        forms: Forms {
            folders: arguments.ios || !arguments.zip,
            zips: arguments.zip,
            packages: arguments.package,
        },
        compression: match arguments.deflate {
            true => Compression::Deflated,
            false => Compression::Stored,
        },
        link: !arguments.copy,
        force: arguments.force,
        source: source(arguments)?,
        version: env!("CARGO_PKG_VERSION"),
    };
    let exported =
        anemll_export::export(&request, &mut |_| check_cancelled().is_ok()).map_err(from_export)?;
    for note in &exported.notes {
        super::say(&format!("note: {}", terminal::plain(note)));
    }
    let commands = match &arguments.upload {
        Some(repository) => {
            let place = arguments.to.canonicalize().unwrap_or_else(|_| arguments.to.clone());
            let forms: Vec<&str> = exported.forms.iter().map(|form| form.name).collect();
            anemll_export::upload_commands(repository, &place, &forms)
        }
        None => Vec::new(),
    };
    if arguments.json {
        let mut value = serde_json::to_value(&exported)
            .map_err(|source| Error::new(codes::INTERNAL, format!("no JSON: {source}")))?;
        value["schema"] = 1.into();
        value["upload"] = serde_json::json!(commands);
        return super::print_json(&value);
    }
    super::print(&text(&exported, &arguments.to, &commands))
}

/// The description as an export has it.
fn described_copy(description: &Description) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(&description.shipped())
        .map_err(|source| Error::new(codes::INTERNAL, format!("no JSON: {source}")))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// A directory; its meta.yaml stands for it, too.
fn directory(path: &Path) -> PathBuf {
    match path.file_name() {
        Some(name) if name == META && path.is_file() => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            parent.map_or_else(|| PathBuf::from("."), Path::to_owned)
        }
        _ => path.to_owned(),
    }
}

/// What the flags say of the original model. Nothing is downloaded for it.
fn source(arguments: &ExportArguments) -> Result<SourceCard> {
    let mut card = SourceCard::default();
    if let Some(model) = &arguments.model {
        let name =
            model.to_str().filter(|name| !model.exists() && anemll_export::is_repository(name));
        let environment = HubEnvironment { offline: true, ..HubEnvironment::read() };
        let found = model_source::resolve_with(model, Need::Config, &environment, &|_| {});
        card = match (found, name) {
            (Ok(directory), _) => SourceCard::read(&directory),
            (Err(_), Some(_)) => card,
            (Err(error), None) => return Err(error),
        };
        if let Some(name) = name {
            card.base_model = Some(name.to_owned());
        }
    }
    if let Some(license) = &arguments.license {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._+".contains(&byte);
        if license.is_empty() || !license.bytes().all(legal) {
            return Err(Error::new(
                codes::USAGE,
                format!("--license {license}: an identifier such as apache-2.0 is needed"),
            ));
        }
        card = SourceCard {
            license: Some(license.to_lowercase()),
            license_name: None,
            license_link: None,
            ..card
        };
    }
    Ok(card)
}

fn text(exported: &Exported, target: &Path, commands: &[String]) -> String {
    let mut table = Table::new(&[Column::Left, Column::Right, Column::Flexible]);
    for form in &exported.forms {
        let models = if form.models == 1 { "model" } else { "models" };
        table.row([
            format!("{}/", form.name),
            terminal::size(form.bytes),
            format!("{} {models}, {} files", form.models, form.files),
        ]);
    }
    let mut text = format!("{}\n{}", target.display(), table.render(terminal::width()));
    text += &format!("  {} written", terminal::size(exported.written_bytes));
    if exported.linked_bytes > 0 {
        text += &format!(", {} shared by hard links", terminal::size(exported.linked_bytes));
    }
    text.push('\n');
    if commands.is_empty() {
        text += &format!("next: anemll verify {}\n", shell_path(target));
    }
    for command in commands {
        text += command;
        text.push('\n');
    }
    text
}
