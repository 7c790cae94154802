//! Reading a conversion from its directory.

use crate::check::check;
use crate::description::{Description, FILE};
use anemll_codes as codes;
use anemll_files::Limit;
use anemll_layout::anemll;
use anemll_plugin_api::data::RunStep;
use anemll_plugin_api::{Error, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The file by which apps find those of a conversion, in its directory.
pub const META: &str = "meta.yaml";

/// What `convert` tells of a conversion, in its directory.
pub const REPORT: &str = "anemll-report.json";

/// A conversion that was read.
#[derive(Debug)]
pub struct Conversion {
    /// The directory that it is in.
    pub directory: PathBuf,
    /// What is in it, checked.
    pub description: Description,
    /// Which of X.mlpackage and X.mlmodelc is opened where both are there.
    pub form: Form,
    /// The file that says all this.
    source: PathBuf,
}

/// The two forms of a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// .mlpackage, from which all else is made.
    #[default]
    Package,
    /// .mlmodelc, which apps load.
    Compiled,
}

impl Form {
    const fn endings(self) -> [&'static str; 2] {
        match self {
            Self::Package => ["mlpackage", "mlmodelc"],
            Self::Compiled => ["mlmodelc", "mlpackage"],
        }
    }
}

/// The meta.yaml that a path means: the file itself, or that of the directory.
pub fn locate(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(META) } else { path.to_owned() }
}

impl Conversion {
    /// Reads the conversion of a meta.yaml: [`FILE`] beside it, or else itself.
    ///
    /// # Errors
    /// [`codes::META_INVALID`]: neither can be read, or what is read cannot be run.
    pub fn read(meta: &Path) -> Result<Self> {
        let directory = meta.parent().map_or_else(PathBuf::new, Path::to_owned);
        let own = directory.join(FILE);
        // Whoever names a file means that one.
        if meta.file_name().is_some_and(|name| name != META) && !meta.exists() {
            return Err(invalid(meta, "the file does not exist").with_hint(
                "take the output directory of `anemll convert`, or the meta.yaml in it",
            ));
        }
        let (source, description) = if own.symlink_metadata().is_ok() {
            (own.clone(), described(&own)?)
        } else {
            (meta.to_owned(), reconstructed(meta)?)
        };
        check(&description).map_err(|what| invalid(&source, &what))?;
        let mut conversion = Self { directory, description, form: Form::default(), source };
        conversion.leave_out_evaluation();
        Ok(conversion)
    }

    /// Copies of what apps load lack the packages for evaluation; they run all the same.
    fn leave_out_evaluation(&mut self) {
        let run = &mut self.description.run;
        let all = |steps: &[RunStep]| {
            steps.iter().all(|step| find(&self.directory, self.form, &step.package).is_some())
        };
        if !all(&run.evaluate) {
            run.evaluate.clear();
        }
    }

    /// What the conversion says of how it was made: [`REPORT`]; null where there is none that can be
    /// read.
    pub fn report(&self) -> Value {
        let bytes = anemll_files::read(&self.directory.join(REPORT), Limit::RECORD).ok();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// SHA-256 of the model that it was made from, in hexadecimal, if it says: in [`REPORT`], or in
    /// the comments of [`META`].
    pub fn source_sha256(&self) -> Option<String> {
        let meta = || anemll_files::read_text(&self.directory.join(META), Limit::RECORD).ok();
        source_sha256(&self.report(), &meta().unwrap_or_default())
    }

    /// The model's name: that of meta.yaml, or the directory's.
    pub fn name(&self) -> String {
        let text = anemll_files::read_text(&self.directory.join(META), Limit::RECORD);
        let said = text.ok().and_then(|text| serde_yaml_ng::from_str::<Value>(&text).ok());
        let said = said.and_then(|meta| Some(meta["model_info"]["name"].as_str()?.to_owned()));
        let directory = || self.directory.canonicalize().unwrap_or_default();
        said.unwrap_or_else(|| directory().file_name().unwrap_or_default().to_string_lossy().into())
    }

    /// The file that says what is in the conversion.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// Where a package is, given by its path without the ending: X.mlpackage, or else X.mlmodelc;
    /// where [`Form::Compiled`] is wanted, the other way round.
    ///
    /// # Errors
    /// [`codes::META_INVALID`]: neither is there.
    pub fn package(&self, path: &str) -> Result<PathBuf> {
        find(&self.directory, self.form, path).ok_or_else(|| {
            let name = self.source.file_name().unwrap_or_default().to_string_lossy();
            let what =
                format!("{name} names `{path}`, but neither .mlpackage nor .mlmodelc is there");
            let package = self.directory.join(format!("{path}.mlpackage"));
            Error::new(codes::META_INVALID, what)
                .with_at(package.display().to_string())
                .with_hint("convert the model again, or copy the missing package")
        })
    }
}

/// SHA-256 of the model of a conversion with this report (null: none) and text of [`META`].
pub fn source_sha256(report: &Value, meta: &str) -> Option<String> {
    let said = report["source_sha256"].as_str().or_else(|| comment(meta, "source_sha256"));
    said.map(str::to_owned)
}

/// A comment in the text of [`META`], such as `source_sha256`.
pub fn comment<'a>(meta: &'a str, key: &str) -> Option<&'a str> {
    meta.lines().find_map(|line| {
        let (name, value) = line.strip_prefix("# ")?.split_once(": ")?;
        (name == key).then_some(value.trim())
    })
}

fn find(directory: &Path, form: Form, path: &str) -> Option<PathBuf> {
    let paths = form.endings().map(|ending| directory.join(format!("{path}.{ending}")));
    paths.into_iter().find(|path| path.exists())
}

fn described(path: &Path) -> Result<Description> {
    let text = anemll_files::read_text(path, Limit::RECORD)
        .map_err(|source| invalid(path, &format!("this file cannot be read: {source}")))?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|source| invalid(path, &format!("not valid: {source}")))?;
    // Another schema may lack what this one needs: its number is the better reason.
    let description = serde_json::from_value(value.clone());
    match (description, value["schema"].as_u64()) {
        (Ok(description), _) => Ok(description),
        (Err(_), Some(schema)) if schema != u64::from(crate::SCHEMA) => Err(invalid(
            path,
            &format!("its schema is {schema}, and this program reads {}", crate::SCHEMA),
        )),
        (Err(source), _) => Err(invalid(path, &format!("not valid: {source}"))),
    }
}

fn reconstructed(meta: &Path) -> Result<Description> {
    let text = anemll_files::read_text(meta, Limit::RECORD).map_err(|source| {
        invalid(meta, &format!("meta.yaml cannot be read: {source}"))
            .with_hint("take the output directory of `anemll convert`, or the meta.yaml in it")
    })?;
    let document: Value = serde_yaml_ng::from_str(&text)
        .map_err(|source| invalid(meta, &format!("meta.yaml is not valid: {source}")))?;
    let info = document
        .get("model_info")
        .ok_or_else(|| invalid(meta, "meta.yaml is not valid: missing field `model_info`"))?;
    let run = anemll::run_order(info).map_err(|what| invalid(meta, &what))?;
    Ok(Description::of_run(run))
}

fn invalid(path: &Path, what: &str) -> Error {
    Error::new(codes::META_INVALID, what).with_at(path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const WHOLE: &str = "model_info:\n  parameters:\n    monolithic_model: x.mlmodelc\n";

    #[test]
    fn a_directory_means_the_file_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("meta.yaml");
        assert_eq!(locate(directory.path()), file);
        assert_eq!(locate(&file), file);
    }

    #[test]
    fn without_a_description_meta_yaml_says_it() {
        let directory = tempfile::tempdir().unwrap();
        let meta = directory.path().join(META);
        fs::write(&meta, WHOLE).unwrap();
        let conversion = Conversion::read(&meta).unwrap();
        assert_eq!(conversion.description.models(), ["x"]);
        assert_eq!(conversion.source(), meta);
        let missing = conversion.package("x").unwrap_err();
        assert!(missing.message.starts_with("meta.yaml names `x`"), "{missing}");
        for name in ["../other", "/etc/x", "a/../../b"] {
            fs::write(&meta, WHOLE.replace("x.mlmodelc", name)).unwrap();
            let error = Conversion::read(&meta).unwrap_err();
            assert!(error.message.contains("name of a file in the directory"), "{error}");
        }
        fs::write(&meta, "model: 1").unwrap();
        assert!(Conversion::read(&meta).unwrap_err().message.contains("model_info"));
    }

    #[test]
    fn the_model_is_named_by_the_report_or_a_comment() {
        let directory = tempfile::tempdir().unwrap();
        let meta = directory.path().join(META);
        fs::write(&meta, format!("{WHOLE}\n# Conversion\n# command: x\n# source_sha256: ab \n"))
            .unwrap();
        let conversion = Conversion::read(&meta).unwrap();
        assert_eq!(conversion.source_sha256().as_deref(), Some("ab"));
        assert!(conversion.report().is_null());
        fs::write(directory.path().join(REPORT), r#"{"source_sha256": "cd"}"#).unwrap();
        assert_eq!(conversion.source_sha256().as_deref(), Some("cd"));
        assert_eq!(comment("# command: a: b", "command"), Some("a: b"));
        assert_eq!(comment("command: a", "command"), None);
    }

    #[test]
    fn a_description_goes_before_meta_yaml() {
        let directory = tempfile::tempdir().unwrap();
        let meta = directory.path().join(META);
        fs::write(&meta, WHOLE).unwrap();
        let call = |package: &str| vec![RunStep::new(package, "step")];
        let run = anemll_plugin_api::data::RunOrder::default().with_infer(call("y"));
        let mut description = Description::of_run(run);
        description.run.evaluate = call("y");
        let own = directory.path().join(FILE);
        fs::write(&own, serde_json::to_vec(&description).unwrap()).unwrap();
        let copy = Conversion::read(&meta).unwrap();
        assert_eq!(copy.description.models(), ["y"]);
        assert!(copy.description.run.evaluate.is_empty(), "its package is not there");
        for form in ["y.mlpackage", "y.mlmodelc"] {
            fs::create_dir(directory.path().join(form)).unwrap();
        }
        let mut whole = Conversion::read(&meta).unwrap();
        assert_eq!(whole.description, description);
        assert!(whole.package("y").unwrap().ends_with("y.mlpackage"));
        whole.form = Form::Compiled;
        assert!(whole.package("y").unwrap().ends_with("y.mlmodelc"));
        for (text, what) in [
            ("{\"schema\": 9}", "schema is 9"),
            ("{\"schema\": 1}", "not valid"),
            ("[", "not valid"),
        ] {
            fs::write(&own, text).unwrap();
            let error = Conversion::read(&meta).unwrap_err();
            assert!(error.message.contains(what), "{error}");
            assert_eq!(error.code, codes::META_INVALID);
        }
    }
}
