//! The crates that plugins are built against, as they lie beside the program.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use anemll_codes as codes;
use anemll_files::Limit;
use anemll_plugin_api::{Error, Result, VERSION};
use serde::Deserialize;

use crate::output::write;

/// The file by which an SDK is known.
const ABOUT: &str = "sdk.json";

/// How large [`ABOUT`] and the files of crates may be.
const LIMIT: Limit = Limit::new("a file of the SDK", 4 << 20);

/// What [`ABOUT`] says.
#[derive(Debug, Deserialize)]
struct About {
    version: String,
    plugin_api: String,
    /// The crates, each with those of the SDK that it uses.
    crates: BTreeMap<String, BTreeSet<String>>,
}

/// An SDK of this program's version.
#[derive(Debug)]
pub struct Sdk {
    folder: PathBuf,
    about: About,
}

/// The SDK that is named, or else the one beside the program: `sdk` in its folder, or `../sdk`.
///
/// # Errors
/// [`codes::SDK_UNFIT`] where there is none, or one of another version.
pub fn find_sdk(named: Option<&Path>, program: Option<&Path>) -> Result<Sdk> {
    if let Some(folder) = named {
        return Sdk::open(folder);
    }
    // A link to the program leads to where it was installed.
    let program = program.and_then(|program| program.canonicalize().ok());
    let beside = program.as_deref().and_then(Path::parent);
    let places: Vec<PathBuf> =
        beside.into_iter().flat_map(|folder| [folder.join("sdk"), folder.join("../sdk")]).collect();
    match places.iter().find(|folder| folder.join(ABOUT).is_file()) {
        Some(folder) => Sdk::open(folder),
        None => {
            let shown: Vec<String> =
                places.iter().map(|folder| folder.display().to_string()).collect();
            let text = "the crates that plugins are built against are not beside the program";
            let mut error = Error::new(codes::SDK_UNFIT, text).with_hint(
                "name their folder with --sdk DIR; a release has it as `sdk`, and `cargo xtask sdk` makes it",
            );
            if !shown.is_empty() {
                error = error.with_cause(format!("looked for {}", shown.join(" and ")));
            }
            Err(error)
        }
    }
}

impl Sdk {
    /// The SDK in a folder.
    fn open(folder: &Path) -> Result<Self> {
        let unfit = |text: String| Error::new(codes::SDK_UNFIT, text).with_at(shown(folder));
        let path = folder.join(ABOUT);
        let bytes = anemll_files::read(&path, LIMIT).map_err(|error| {
            unfit(format!("this is no SDK: it has no {ABOUT} that can be read")).with_source(&error)
        })?;
        let about: About = serde_json::from_slice(&bytes)
            .map_err(|error| unfit(format!("its {ABOUT} cannot be read: {error}")))?;
        let own = env!("CARGO_PKG_VERSION");
        if about.version != own || about.plugin_api != VERSION {
            let text = format!(
                "the SDK is that of anemll {} (anemll-plugin-api {}), and this program is anemll {own} \
                 ({VERSION})",
                printable(&about.version),
                printable(&about.plugin_api)
            );
            return Err(unfit(text).with_hint("take the SDK of the program's own release"));
        }
        let legal = |name: &str| {
            !name.is_empty()
                && name.chars().all(|it| it.is_ascii_alphanumeric() || "-_".contains(it))
        };
        let names = about.crates.iter().flat_map(|(name, uses)| uses.iter().chain([name]));
        if let Some(other) = names.into_iter().find(|name| !legal(name)) {
            return Err(unfit(format!("its {ABOUT} names {other:?}, which is not a crate")));
        }
        Ok(Self { folder: folder.to_owned(), about })
    }

    /// The folder where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Copies crates, all that they use, and what goes with all of them, into a new folder; how many
    /// files that are.
    ///
    /// # Errors
    /// [`codes::SDK_UNFIT`] where something is missing, [`codes::OUTPUT_UNWRITABLE`].
    pub(crate) fn copy(&self, wanted: &BTreeSet<String>, target: &Path) -> Result<usize> {
        let mut crates = BTreeSet::new();
        let mut open: Vec<&String> = wanted.iter().collect();
        while let Some(name) = open.pop() {
            let Some(uses) = self.about.crates.get(name) else {
                let text = format!("the SDK lacks the crate `{name}`");
                return Err(Error::new(codes::SDK_UNFIT, text).with_at(shown(&self.folder)));
            };
            if crates.insert(name.clone()) {
                open.extend(uses);
            }
        }
        let mut count = 0;
        for name in crates.iter().map(String::as_str).chain(["LICENSE-APACHE", "LICENSE-MIT"]) {
            count += copy(&self.folder.join(name), &target.join(name))?;
        }
        Ok(count)
    }

    /// The versions of other crates with which the SDK was tested.
    pub(crate) fn lock_file(&self) -> Result<Vec<u8>> {
        let path = self.folder.join("Cargo.lock");
        anemll_files::read(&path, LIMIT).map_err(|error| unreadable(&path, &error))
    }
}

/// Copies a file, or a folder with all that is in it; how many files that are. Links are not followed.
fn copy(from: &Path, to: &Path) -> Result<usize> {
    let about = fs::symlink_metadata(from).map_err(|error| unreadable(from, &error))?;
    if !about.is_dir() {
        let bytes =
            anemll_files::read_no_follow(from, LIMIT).map_err(|error| unreadable(from, &error))?;
        write(to, &bytes)?;
        return Ok(1);
    }
    let mut count = 0;
    for entry in fs::read_dir(from).map_err(|error| unreadable(from, &error))? {
        let entry = entry.map_err(|error| unreadable(from, &error))?;
        // What cargo built there, should someone have worked in it.
        if entry.file_name() != "target" {
            count += copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(count)
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::new(codes::SDK_UNFIT, "a file of the SDK cannot be read")
        .with_at(shown(path))
        .with_source(error)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn printable(text: &str) -> String {
    text.chars().take(40).filter(|character| !character.is_control()).collect()
}
