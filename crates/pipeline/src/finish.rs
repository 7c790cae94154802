//! The last steps of a conversion: compiling, small files, a test run.

use super::joining;
use super::packages::relative_path;
use super::report::StepReport;
use anemll_calibration::Quality;
use anemll_codes as codes;
use anemll_conversion::{Description, FILE, META, shipped};
use anemll_files::Limit;
use anemll_generation::chat_template;
use anemll_generation::embedder::Embedder;
use anemll_generation::engine::Engine;
use anemll_huggingface::{Importance, ModelDirectory};
use anemll_plugin_api::data::{Bundle, Joined, Layout, ModelDescription};
use anemll_plugin_api::{Compiler, Error, Host, Result, Runtime};
use anemll_services::check_cancelled;
use anemll_store::{OutputName, Store};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

/// Most templates beside the one for plain conversations; models have one or two.
const MOST_TEMPLATES: usize = 32;

/// The tokenizer and its kin, as they are in the model directory: what is copied beside the packages.
#[derive(Debug)]
pub(super) struct SmallFiles {
    /// Names and contents, in a fixed order.
    files: Vec<(String, Vec<u8>)>,
}

impl SmallFiles {
    /// Reads them all. What is not what its name says is left out where only chat suffers, of which
    /// the job has told, or where the conversion has no tokenizer.
    ///
    /// # Errors
    /// A file that is needed and is not what its name says.
    pub(super) fn read(directory: &ModelDirectory, with_tokenizer: bool) -> Result<Self> {
        let mut files = Vec::new();
        for file in directory.companions() {
            match file.read() {
                Ok(contents) => files.push((file.name().to_owned(), contents.bytes)),
                Err(_) if !with_tokenizer || file.importance() == Importance::Comfort => {}
                Err(error) => return Err(Error::from(error)),
            }
        }
        files.extend(templates(directory.path()));
        Ok(Self { files })
    }

    /// Adds what makes a bundle of the output directory: its files, and the tokenizer's once more in a
    /// folder of their own.
    pub(super) fn add_bundle(&mut self, bundle: &Bundle) {
        let plain = self.files.iter().filter(|(name, _)| !name.contains('/'));
        let copies = plain
            .map(|(name, bytes)| (format!("{}/{name}", anemll_store::TOKENIZER), bytes.clone()));
        let mut added: Vec<(String, Vec<u8>)> = copies.collect();
        for (name, contents) in &bundle.files {
            added.push((name.clone(), format!("{contents:#}\n").into_bytes()));
        }
        self.files.extend(added);
    }

    /// SHA-256 over names and contents: another one where a file changed, came or went, and the
    /// same in whatever directory the model is.
    pub(super) fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for (name, bytes) in &self.files {
            hash.update(name);
            hash.update([0]);
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
        hex::encode(hash.finalize())
    }

    /// What [`Self::write`] makes, in the output directory.
    pub(super) fn outputs(&self) -> Vec<PathBuf> {
        let own = [FILE, META].map(PathBuf::from);
        self.files.iter().map(|(name, _)| PathBuf::from(name)).chain(own).collect()
    }

    /// Copies them, and writes meta.yaml and the description.
    pub(super) fn write(
        &self,
        store: &Store,
        meta: &str,
        description: &Description,
    ) -> Result<Vec<PathBuf>> {
        for (name, bytes) in &self.files {
            store.write(Path::new(name), bytes)?;
        }
        store.write_json(Path::new(FILE), description)?;
        store.write(Path::new(META), meta.as_bytes())?;
        Ok(self.outputs())
    }
}

/// The chat templates of a model for other purposes than plain conversations, by the names that they
/// get. One that cannot be read, or has a name that no output can have, is left out.
fn templates(model: &Path) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(chat_template::FOLDER);
    let entries = std::fs::read_dir(model.join(folder)).into_iter().flatten().flatten();
    let mut found: Vec<(String, Vec<u8>)> = entries
        .take(MOST_TEMPLATES)
        .filter_map(|entry| {
            let name = OutputName::of_path(&folder.join(entry.file_name())).ok()?;
            let bytes = anemll_files::read(&entry.path(), Limit::TEMPLATE).ok()?;
            Some((name.to_string(), bytes))
        })
        .collect();
    found.sort();
    found
}

/// The compile step.
pub(super) struct Compiling<'a> {
    /// The compiler's id.
    pub(super) id: &'a str,
    pub(super) compiler: &'a dyn Compiler,
    /// The ending of what it makes.
    pub(super) ending: &'a str,
    pub(super) layout: &'a Layout,
    /// What it makes, where that is one model of all packages.
    pub(super) joined: Option<&'a Joined>,
}

impl Compiling<'_> {
    /// Compiles the packages that ship; gives the names of what it made. A backend that cannot run here
    /// is left out, unless the user asked for just this: `demanded`.
    pub(super) fn run(
        &self,
        demanded: bool,
        store: &Store,
        host: &Host,
    ) -> Result<(Vec<PathBuf>, StepReport)> {
        let id = self.id;
        let availability = self.compiler.check()?;
        if !availability.available {
            let here = format!("{id} cannot run here ({})", availability.reason);
            if demanded {
                return Err(Error::new(codes::COMPILER_UNAVAILABLE, here).with_hint(
                    "install the Xcode Command Line Tools, or choose another --compiler",
                ));
            }
            let message = format!(
                "left out, {here}; on a Mac with Xcode run: \
                 xcrun coremlcompiler compile PACKAGE.mlpackage DIRECTORY"
            );
            return Ok((Vec::new(), StepReport::told(false, message)));
        }
        let packages = shipped(self.layout).count();
        let made = match self.joined {
            Some(joined) => vec![self.join(joined, store, host)?],
            None => self.each(store, host)?,
        };
        let plural = if packages == 1 { "" } else { "s" };
        let one = if self.joined.is_some() { " as one model" } else { "" };
        let message = format!("{packages} package{plural}{one} by {id}");
        Ok((made, StepReport::told(true, message)))
    }

    /// A model of each package.
    fn each(&self, store: &Store, host: &Host) -> Result<Vec<PathBuf>> {
        let mut made = Vec::new();
        for package in shipped(self.layout) {
            check_cancelled()?;
            let path = store.view().locate(&relative_path(package));
            let compiled = self.compiler.compile(&path, store.view().staging(), host)?;
            made.push(self.checked(&package.stem, &compiled, store)?);
        }
        Ok(made)
    }

    /// One model of all.
    fn join(&self, joined: &Joined, store: &Store, host: &Host) -> Result<PathBuf> {
        check_cancelled()?;
        let locate = |package: &str| {
            let mut found = shipped(self.layout).filter(|one| one.path() == package);
            store.view().locate(&found.next().map_or_else(PathBuf::new, relative_path))
        };
        let staging = store.view().staging();
        let compiled = joining::compile(self.compiler, joined, locate, staging, host)?;
        self.checked(&joined.name, &compiled, store)
    }

    /// The name of what was made, if it is where it should be.
    fn checked(&self, stem: &str, compiled: &Path, store: &Store) -> Result<PathBuf> {
        let name = compiled_name(stem, self.ending);
        let expected = store.view().staging().join(&name);
        let is_model = expected.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
            && expected.read_dir().is_ok_and(|mut entries| entries.next().is_some());
        if compiled == expected && is_model {
            return Ok(PathBuf::from(name));
        }
        let id = self.id;
        Err(Error::new(
            codes::PLUGIN_BAD_ANSWER,
            format!("the compiler `{id}` did not make {name}, although it reports no error"),
        )
        .with_at(compiled.display().to_string())
        .with_hint("this is a bug in the compiler plugin; please report it to its author, or choose another --compiler"))
    }
}

/// The file name of the compiled model of a package, or of several.
pub(super) fn compiled_name(stem: &str, ending: &str) -> String {
    format!("{stem}.{ending}")
}

/// Bytes of the files of a package.
pub(super) fn size(path: &Path) -> std::io::Result<u64> {
    let metadata = fs_err::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    fs_err::read_dir(path)?.map(|entry| size(&entry?.path())).sum()
}

/// Runs a few tokens: the packages load, and what they give is finite. `judge` then measures what runs.
pub(super) fn test(
    runtime: &dyn Runtime,
    layout: &Layout,
    store: &Store,
    description: &ModelDescription,
    host: &Host,
    judge: impl FnOnce(&mut Engine) -> Result<Option<Quality>>,
) -> Result<StepReport> {
    let availability = runtime.check()?;
    if !availability.available {
        return Ok(StepReport::told(false, format!("left out: {}", availability.reason)));
    }
    gather(layout, store)?;
    let mut engine = Engine::open(&store.view().staging().join(META), runtime, host)?;
    let count = description.context.min(4);
    for position in 0..count {
        check_cancelled()?;
        let token = position % description.vocabulary_size;
        if engine.infer(token as u32, position)?.has_not_a_number() {
            return Err(Error::new(
                codes::RUN_FAILED,
                format!(
                    "the converted model gives values that are not numbers at position {position}"
                ),
            )
            .with_hint(
                "activations may pass the range of 16-bit floats; `--runtime none` leaves this \
                 test out and keeps the packages",
            ));
        }
    }
    let report = StepReport::told(true, format!("{count} tokens ran, all values finite"));
    Ok(StepReport { quality: judge(&mut engine)?, ..report })
}

/// As [`test`], of a model that gives vectors: one of a few tokens.
pub(super) fn test_vectors(
    runtime: &dyn Runtime,
    layout: &Layout,
    store: &Store,
    host: &Host,
) -> Result<StepReport> {
    let availability = runtime.check()?;
    if !availability.available {
        return Ok(StepReport::told(false, format!("left out: {}", availability.reason)));
    }
    gather(layout, store)?;
    let mut embedder = Embedder::open(&store.view().staging().join(META), runtime, host)?;
    let count = embedder.context().min(4);
    let vocabulary = embedder.embedding().vocabulary;
    let tokens: Vec<u32> = (0..count).map(|token| (token % vocabulary) as u32).collect();
    if embedder.vector(&tokens)?.iter().any(|value| !value.is_finite()) {
        return Err(Error::new(
            codes::RUN_FAILED,
            "the converted model gives a vector with values that are not finite",
        )
        .with_hint(
            "activations may pass the range of 16-bit floats; `--runtime none` leaves this test out and \
             keeps the packages",
        ));
    }
    Ok(StepReport::told(true, format!("the vector of {count} tokens, all values finite")))
}

/// Brings what an engine opens into the staging folder, where a part of it may be under its final
/// name already.
fn gather(layout: &Layout, store: &Store) -> Result<()> {
    let packages = layout.packages.iter().map(relative_path);
    for relative in packages.chain([PathBuf::from(META), PathBuf::from(FILE)]) {
        store.gather(&relative)?;
    }
    Ok(())
}
