//! `analytics/coremldata.bin`: name and hash of the source model.

use crate::wire::{Reader, put_counted};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Most sections and entries that are read; real files have two of each.
const MOST: u64 = 1000;

/// What `analytics/coremldata.bin` says: sections of keys with values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analytics {
    /// Sections in the order of the file.
    pub sections: Vec<(String, Vec<(String, String)>)>,
}

impl Analytics {
    /// What is written for a model file of this SHA-256 with the name `stem`, such as `model`.
    pub fn of_model(stem: &str, digest: &[u8; 32]) -> Self {
        let entry = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        Self {
            sections: vec![
                (
                    "NeuralNetworkModelDetails".to_owned(),
                    vec![entry("containsCustomLayer", "0"), entry("modelDimension", "0")],
                ),
                (
                    "SpecificationDetails".to_owned(),
                    vec![entry("modelHash", &STANDARD.encode(digest)), entry("modelName", stem)],
                ),
            ],
        }
    }

    /// A value of the file, such as that of `modelHash`.
    pub fn value(&self, key: &str) -> Option<&str> {
        let mut entries = self.sections.iter().flat_map(|(_, entries)| entries);
        entries.find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (title, entries) in &self.sections {
            put_counted(&mut bytes, title.as_bytes());
            bytes.extend_from_slice(&(entries.len() as u64).to_le_bytes());
            for (key, value) in entries {
                put_counted(&mut bytes, key.as_bytes());
                put_counted(&mut bytes, value.as_bytes());
            }
        }
        bytes
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// A sentence: truncated, or no UTF-8.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let mut reader = Reader::new(bytes);
        let mut sections = Vec::new();
        while reader.left() > 0 {
            let title = reader.text("a title")?.to_owned();
            let count = reader.u64("a number of entries")?;
            if count > MOST || sections.len() as u64 > MOST {
                return Err(format!("section {title:?} announces {count} entries"));
            }
            let mut entries = Vec::new();
            for _ in 0..count {
                let key = reader.text("a key")?.to_owned();
                entries.push((key, reader.text("a value")?.to_owned()));
            }
            sections.push((title, entries));
        }
        Ok(Self { sections })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_known_size_and_comes_back() {
        // SHA-256 of nothing.
        let digest = [
            0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f,
            0xb9, 0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b,
            0x78, 0x52, 0xb8, 0x55,
        ];
        let analytics = Analytics::of_model("model", &digest);
        let bytes = analytics.to_bytes();
        assert_eq!(bytes.len(), 243);
        assert!(
            bytes.starts_with(b"\x19\0\0\0\0\0\0\0NeuralNetworkModelDetails\x02\0\0\0\0\0\0\0")
        );
        assert_eq!(Analytics::from_bytes(&bytes), Ok(analytics.clone()));
        let hash = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        assert_eq!(analytics.value("modelHash"), Some(hash));
        for length in 1..bytes.len() {
            if length != 108 {
                assert!(Analytics::from_bytes(&bytes[..length]).is_err(), "{length}");
            }
        }
    }
}
