//! A conversion's own calibration: what its quantizer knows of the weights' inputs, and what the
//! result is judged by, made once for a model and kept.

use crate::built_in_text::tokens;
use crate::cache;
use crate::calibrate::{self, CalibrateRequest};
use crate::event::Event;
use crate::original::OriginalRequest;
use crate::plugins::Plugins;
use crate::request::{CPU, ConvertRequest};
use crate::scratch;
use anemll_calibration::{CHECKPOINT, Counting, Judge, Kind, Statistics, built_in_sha256};
use anemll_plugin_api::{Host, Result};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

/// Longest window of text.
const WINDOW: u64 = 512;

/// What a conversion's own calibration is made from.
pub(crate) struct OwnCalibration<'a> {
    pub(crate) arguments: &'a ConvertRequest,
    pub(crate) plugins: &'a Plugins,
    pub(crate) host: &'a Host,
    /// The model's directory.
    pub(crate) model: &'a Path,
    pub(crate) source_sha256: &'a str,
    /// Of the tokenizer and its kin.
    pub(crate) tokenizer_sha256: String,
    /// Where a temporary folder goes.
    pub(crate) scratch: &'a Path,
    /// Elements of all weights.
    pub(crate) parameters: u64,
    pub(crate) show: &'a dyn Fn(&Event<'_>),
}

/// A file that was found or made.
pub(crate) struct Made {
    pub(crate) path: PathBuf,
    /// Where the file is, when nothing keeps it.
    _folder: Option<tempfile::TempDir>,
}

impl OwnCalibration<'_> {
    /// Statistics of the weights' inputs with a judge; where products take too long or too much room,
    /// squares.
    ///
    /// # Errors
    /// Those of a calibration.
    pub(crate) fn statistics(&self, kind: Kind) -> Result<Made> {
        self.made(Some(kind))
    }

    /// What conversions are judged by.
    ///
    /// # Errors
    /// Those of a calibration.
    pub(crate) fn judge(&self) -> Result<Option<Judge>> {
        // A calibration has a judge, too.
        for kind in [None, Some(Kind::Squares), Some(Kind::Products)] {
            if let Some(path) = cache::folder().map(|folder| folder.join(self.name(kind)))
                && let Ok(kept) = Statistics::open(&path)
                && let Ok(Some(judge)) = Judge::read(&kept)
            {
                return Ok(Some(judge));
            }
        }
        let made = self.made(None)?;
        Judge::read(&Statistics::open(&made.path)?)
    }

    fn made(&self, kind: Option<Kind>) -> Result<Made> {
        let (folder, temporary) = match cache::folder() {
            Some(folder) => (folder, None),
            None => {
                let folder = scratch::folder(self.scratch, "anemll-calibration-")?;
                (folder.path().to_owned(), Some(folder))
            }
        };
        let path = folder.join(self.name(kind));
        if Statistics::open(&path).is_ok_and(|found| {
            found.provenance().is_some_and(|said| said.source_sha256 == self.source_sha256)
        }) {
            return Ok(Made { path, _folder: temporary });
        }
        let request = CalibrateRequest {
            original: OriginalRequest {
                model: self.model.to_owned(),
                context: self.window(),
                arch: self.arguments.arch.clone(),
                head: self.arguments.head,
                options: Vec::new(),
                source_sha256: Some(self.source_sha256.to_owned()),
                runtime: CPU.to_owned(),
                scratch: Some(self.scratch.to_owned()),
            },
            texts: Vec::new(),
            chat: false,
            built_in: false,
            tokens: if kind.is_some() { tokens(self.parameters) } else { 0 },
            kind: kind.unwrap_or(Kind::Squares),
            counting: Counting::ByEffect,
            own_answers: 0,
            memory: None,
            squares_where_products_are_too_large: true,
            checkpoint: CHECKPOINT,
            output: path.clone(),
        };
        calibrate::calibrate(&request, self.plugins, self.host, self.show)?;
        cache::trim(&folder, &path);
        Ok(Made { path, _folder: temporary })
    }

    fn window(&self) -> u64 {
        self.arguments.context.min(WINDOW)
    }

    /// The same name for what comes out the same.
    fn name(&self, kind: Option<Kind>) -> String {
        let kind = match kind {
            None => "judge",
            Some(Kind::Squares) => "squares",
            Some(Kind::Products) => "products",
        };
        let mut hash = Sha256::new();
        let head = self.arguments.head.map(|head| head.name());
        for part in [
            env!("CARGO_PKG_VERSION"),
            self.source_sha256,
            &self.tokenizer_sha256,
            &built_in_sha256(),
            head.unwrap_or_default(),
            self.arguments.arch.as_deref().unwrap_or_default(),
            &self.window().to_string(),
            &tokens(self.parameters).to_string(),
        ] {
            hash.update(part);
            hash.update([0]);
        }
        let hash = hex::encode(hash.finalize());
        format!("calibration-{}-{kind}.safetensors", &hash[..32])
    }
}
