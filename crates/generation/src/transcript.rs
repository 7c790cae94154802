//! The file that `chat --save` writes.

use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use serde::Serialize;
use std::io::Write as _;
use std::path::{Path, PathBuf};

#[derive(Debug, Serialize)]
struct Message {
    role: &'static str,
    content: String,
}

/// A conversation as a JSON array of messages, as chat templates take it.
#[derive(Debug)]
pub struct Transcript {
    path: PathBuf,
    messages: Vec<Message>,
}

impl Transcript {
    /// An empty one. What is at the path already is not replaced.
    pub fn new(path: &Path) -> Result<Self> {
        if path.symlink_metadata().is_ok() {
            return Err(Error::new(codes::OUTPUT_EXISTS, "the file for the conversation exists")
                .with_at(path.display().to_string())
                .with_hint("remove it, or give another name to --save"));
        }
        let transcript = Self { path: path.to_owned(), messages: Vec::new() };
        // Better to fail now than after the first answer.
        transcript.write()?;
        Ok(transcript)
    }

    /// Adds a message.
    pub fn add(&mut self, role: &'static str, content: &str) {
        self.messages.push(Message { role, content: content.to_owned() });
    }

    /// Writes the whole conversation; the file is never half written.
    pub fn write(&self) -> Result<()> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let written = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            let text = serde_json::to_string_pretty(&self.messages)?;
            writeln!(file, "{text}")?;
            file.persist(&self.path)?;
            Ok(())
        };
        written().map_err(|source| {
            Error::new(
                codes::OUTPUT_UNWRITABLE,
                format!("the conversation cannot be saved: {source}"),
            )
            .with_at(self.path.display().to_string())
            .with_hint("give --save a file that can be written")
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
        assert_eq!(Transcript::new(&path).unwrap_err().code, codes::OUTPUT_EXISTS);
        let error = Transcript::new(&folder.path().join("absent/talk.json")).unwrap_err();
        assert_eq!(error.code, codes::OUTPUT_UNWRITABLE);
    }
}
