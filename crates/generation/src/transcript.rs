//! What was said in a conversation, and the files that `chat --save` and `/save` write.

use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use serde::Serialize;
use std::io::Write as _;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Serialize)]
struct Message {
    role: &'static str,
    content: String,
}

/// A conversation as a JSON array of messages, as chat templates take it.
#[derive(Debug)]
pub struct Transcript {
    /// None: it is kept in memory.
    path: Option<PathBuf>,
    messages: Vec<Message>,
}

impl Transcript {
    /// An empty one in memory.
    pub fn unsaved() -> Self {
        Self { path: None, messages: Vec::new() }
    }

    /// An empty one. What is at the path already is not replaced.
    ///
    /// # Errors
    /// There is something, or the file cannot be written.
    pub fn new(path: &Path) -> Result<Self> {
        Self::unsaved().begin(path)
    }

    /// Writes what there is to another file, which is new.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn copy_to(&self, path: &Path) -> Result<()> {
        let messages = self.messages.clone();
        Self { path: None, messages }.begin(path).map(drop)
    }

    fn begin(self, path: &Path) -> Result<Self> {
        if path.symlink_metadata().is_ok() {
            return Err(Error::new(codes::OUTPUT_EXISTS, "the file for the conversation exists")
                .with_at(path.display().to_string())
                .with_hint("remove it, or give another name"));
        }
        let transcript = Self { path: Some(path.to_owned()), ..self };
        // Better to fail now than after the first answer.
        transcript.write()?;
        Ok(transcript)
    }

    /// Adds a message.
    pub fn add(&mut self, role: &'static str, content: &str) {
        self.messages.push(Message { role, content: content.to_owned() });
    }

    /// Writes the whole conversation, where it has a file; that is never half written.
    pub fn write(&self) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let written = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            let text = serde_json::to_string_pretty(&self.messages)?;
            writeln!(file, "{text}")?;
            file.persist(path)?;
            Ok(())
        };
        written().map_err(|source| {
            Error::new(
                codes::OUTPUT_UNWRITABLE,
                format!("the conversation cannot be saved: {source}"),
            )
            .with_at(path.display().to_string())
            .with_hint("name a file that can be written")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_are_written_whole_and_replace_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("talk.json");
        let mut transcript = Transcript::new(&path).unwrap();
        transcript.add("user", "Grüße\n\"x\"");
        transcript.add("assistant", "");
        transcript.write().unwrap();
        let read: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read[0]["content"], "Grüße\n\"x\"");
        assert_eq!(read[1]["role"], "assistant");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let other = folder.path().join("other.json");
        transcript.copy_to(&other).unwrap();
        assert_eq!(std::fs::read(&other).unwrap(), std::fs::read(&path).unwrap());
        assert_eq!(transcript.copy_to(&other).unwrap_err().code, codes::OUTPUT_EXISTS);
        Transcript::unsaved().write().unwrap();
        assert_eq!(Transcript::new(&path).unwrap_err().code, codes::OUTPUT_EXISTS);
        let error = Transcript::new(&folder.path().join("absent/talk.json")).unwrap_err();
        assert_eq!(error.code, codes::OUTPUT_UNWRITABLE);
    }
}
