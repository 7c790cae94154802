//! The lock file: which plugins the user trusts, byte for byte.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anemll_codes as codes;
use anemll_files::Limit;
use anemll_plugin_api::data::is_legal_id;
use anemll_plugin_api::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::permissions::anyone_may_write;

/// The name of the lock file in the user's folder.
pub const LOCK_FILE: &str = "plugins.lock.json";

/// The form of the file; another number is refused.
const SCHEMA: u32 = 1;

/// A plugin that is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locked {
    /// The plugin's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The SHA-256 of its library, in hexadecimal: this alone decides.
    pub sha256: String,
    /// The length of the library in bytes.
    pub bytes: u64,
    /// Where the library was when it was trusted.
    pub path: PathBuf,
}

/// All plugins that are trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockFile {
    plugins: Vec<Locked>,
}

#[derive(Serialize, Deserialize)]
struct Contents {
    schema: u32,
    plugins: Vec<Locked>,
}

/// The part of the file that is the same in all forms.
#[derive(Deserialize)]
struct Head {
    schema: u32,
}

impl LockFile {
    /// Reads the file; one that is not there lists nothing.
    ///
    /// # Errors
    /// [`codes::PLUGIN_LOCK_INVALID`] when it cannot be read, is damaged, or when anyone may write to
    /// it or its folder.
    pub fn read(path: &Path) -> Result<Self> {
        let text = match anemll_files::read_text(path, Limit::RECORD) {
            Ok(text) => text,
            Err(source) if source.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(invalid(path, &format!("it cannot be read: {source}"))),
        };
        let folder = path.parent().unwrap_or(path);
        for place in [path, folder] {
            if anyone_may_write(place) {
                let why = format!("anyone may write to {}", place.display());
                return Err(invalid(path, &why)
                    .with_hint(format!("take that right away: chmod o-w {}", place.display())));
            }
        }
        let damaged =
            |source: serde_json::Error| invalid(path, &format!("it is damaged: {source}"));
        let head: Head = serde_json::from_str(&text).map_err(damaged)?;
        if head.schema != SCHEMA {
            let why = format!("it has the form {}; this program knows {SCHEMA}", head.schema);
            return Err(invalid(path, &why));
        }
        let contents: Contents = serde_json::from_str(&text).map_err(damaged)?;
        if let Some(plugin) = contents.plugins.iter().find(|plugin| !is_legal_id(&plugin.name)) {
            return Err(invalid(path, &format!("{:?} is not a plugin's name", plugin.name)));
        }
        Ok(Self { plugins: contents.plugins })
    }

    /// Writes the file anew, whole or not at all.
    ///
    /// # Errors
    /// [`codes::PLUGIN_LOCK_INVALID`] when it cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let failed = |source: std::io::Error| {
            Error::new(
                codes::PLUGIN_LOCK_INVALID,
                format!("the lock file of plugins cannot be written: {source}"),
            )
            .with_at(path.display().to_string())
        };
        let contents = Contents { schema: SCHEMA, plugins: self.plugins.clone() };
        let mut text = serde_json::to_string_pretty(&contents)
            .map_err(|source| failed(std::io::Error::other(source)))?;
        text.push('\n');
        let folder = path.parent().unwrap_or(path);
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        std::io::Write::write_all(&mut file, text.as_bytes())
            .and_then(|()| file.as_file().sync_all())
            .map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        anemll_files::sync_folder(folder).map_err(failed)
    }

    /// The plugins, in the order of their names and places.
    pub fn plugins(&self) -> &[Locked] {
        &self.plugins
    }

    /// Whether a library with this sum is trusted.
    pub fn lists(&self, sha256: &str) -> bool {
        self.plugins.iter().any(|plugin| plugin.sha256 == sha256)
    }

    /// Whether another library of this name or at this place is trusted.
    pub(crate) fn knows(&self, name: &str, path: &Path) -> bool {
        self.plugins.iter().any(|plugin| plugin.name == name || plugin.path == path)
    }

    /// Lists a plugin, in place of what was listed for its file.
    pub(crate) fn insert(&mut self, plugin: Locked) {
        self.plugins.retain(|other| other.path != plugin.path);
        self.plugins.push(plugin);
        self.plugins.sort_by(|one, other| (&one.name, &one.path).cmp(&(&other.name, &other.path)));
    }

    /// Takes all plugins of a name out, and gives them.
    pub(crate) fn remove(&mut self, name: &str) -> Vec<Locked> {
        let (removed, rest) = self.plugins.drain(..).partition(|plugin| plugin.name == name);
        self.plugins = rest;
        removed
    }
}

fn invalid(path: &Path, why: &str) -> Error {
    Error::new(
        codes::PLUGIN_LOCK_INVALID,
        format!("the lock file of plugins cannot be used: {why}"),
    )
    .with_at(path.display().to_string())
    .with_hint("mend it, or remove it and trust your plugins again with `anemll plugin trust`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(name: &str, path: &str, sha256: &str) -> Locked {
        let path = PathBuf::from(path);
        Locked { name: name.into(), version: "1.0.0".into(), sha256: sha256.into(), bytes: 3, path }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOCK_FILE);
        assert_eq!(LockFile::read(&path).unwrap(), LockFile::default());
        let mut lock = LockFile::default();
        lock.insert(plugin("b", "/x/b.so", "1"));
        lock.insert(plugin("a", "/x/a.so", "2"));
        // The same file again takes its place; a second one of that name stands beside it.
        lock.insert(plugin("b", "/x/b.so", "3"));
        lock.insert(plugin("b", "/y/b.so", "4"));
        lock.write(&path).unwrap();
        let mut read = LockFile::read(&path).unwrap();
        assert_eq!(read, lock);
        let sums: Vec<&str> = read.plugins().iter().map(|plugin| &*plugin.sha256).collect();
        assert_eq!(sums, ["2", "3", "4"]);
        assert!(read.lists("3") && !read.lists("1"));
        assert!(read.knows("a", Path::new("/z")) && read.knows("z", Path::new("/x/a.so")));
        assert!(!read.knows("z", Path::new("/z")));
        assert_eq!(read.remove("b").len(), 2);
        assert!(!read.lists("3") && read.lists("2"));
        // Nothing is left behind.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_trusted_itself_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOCK_FILE);
        let name = r#"{"schema": 1, "plugins": [{"name": "\u001b", "version": "1", "sha256": "",
            "bytes": 0, "path": ""}]}"#;
        for text in ["", "[]", "{}", r#"{"schema": 2}"#, r#"{"schema": 1}"#, name] {
            std::fs::write(&path, text).unwrap();
            let error = LockFile::read(&path).unwrap_err();
            assert_eq!(error.code, codes::PLUGIN_LOCK_INVALID, "{text}");
            assert!(!error.message.contains('\u{1b}'), "{error}");
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            LockFile::default().write(&path).unwrap();
            for (place, open, closed) in
                [(&path, 0o646, 0o600), (&folder.path().into(), 0o777, 0o700)]
            {
                let allow = |mode| std::fs::Permissions::from_mode(mode);
                std::fs::set_permissions(place, allow(open)).unwrap();
                let error = LockFile::read(&path).unwrap_err();
                assert!(error.message.contains("anyone may write"), "{error}");
                std::fs::set_permissions(place, allow(closed)).unwrap();
                LockFile::read(&path).unwrap();
            }
        }
    }
}
