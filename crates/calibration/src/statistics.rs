//! Reading a file of statistics.

use crate::file::{JUDGE, PROVENANCE, Provenance, SCHEMA, Said};
use anemll_codes as codes;
use anemll_plugin_api::{DType, Error, Result, Tensor};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

/// The largest header of a safetensors file.
const LARGEST_HEADER: u64 = 100_000_000;
/// Bytes that are looked at at once.
const STEP: usize = 1 << 20;

/// An open file of statistics. Nothing of it is kept in memory but names and places.
#[derive(Debug)]
pub struct Statistics {
    at: String,
    file: File,
    provenance: Option<Provenance>,
    same: BTreeMap<String, String>,
    tensors: BTreeMap<String, Place>,
    header: Vec<u8>,
}

/// Where one tensor lies in the file.
#[derive(Debug)]
struct Place {
    dtype: Dtype,
    shape: Vec<u64>,
    range: Range<u64>,
}

impl Statistics {
    /// Opens a file. Values are not looked at; see [`Self::check_values`].
    ///
    /// # Errors
    /// It is no safetensors file, or one that says of itself what cannot be.
    pub fn open(path: &Path) -> Result<Self> {
        let at = path.display().to_string();
        let invalid =
            |reason: String| Error::new(codes::STATISTICS_INVALID, reason).with_at(at.clone());
        let unreadable =
            |source: std::io::Error| invalid(format!("the statistics cannot be read: {source}"));
        let file = anemll_files::open(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let damaged =
            |what: &str| invalid(format!("the statistics are not a safetensors file: {what}"));
        let mut length = [0; 8];
        if size < 8 {
            return Err(damaged("it ends before its header"));
        }
        anemll_files::read_exact_at(&file, &mut length, 0).map_err(unreadable)?;
        let length = u64::from_le_bytes(length);
        let start = length.checked_add(8).filter(|start| *start <= size);
        let start = start
            .filter(|_| length <= LARGEST_HEADER)
            .ok_or_else(|| damaged("it ends before its header, or this is too long"))?;
        let mut header = vec![0; start as usize];
        anemll_files::read_exact_at(&file, &mut header, 0).map_err(unreadable)?;
        let metadata: Metadata =
            serde_json::from_slice(&header[8..]).map_err(|source| damaged(&source.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            let known = if name.starts_with(JUDGE) {
                matches!(info.dtype, Dtype::F32 | Dtype::U32)
            } else {
                info.dtype == Dtype::F32
            };
            if !known {
                return Err(invalid(format!(
                    "the statistics of `{name}` are {:?}, not F32",
                    info.dtype
                )));
            }
            let place = |offset: usize| start.saturating_add(offset as u64);
            let range = place(info.data_offsets.0)..place(info.data_offsets.1);
            let elements = info
                .shape
                .iter()
                .try_fold(1_u64, |product, size| product.checked_mul(*size as u64));
            let bytes = elements.and_then(|elements| elements.checked_mul(4));
            if range.end > size || range.end.checked_sub(range.start) != bytes {
                return Err(invalid(format!(
                    "the statistics of `{name}` lie outside of the file, or have not the size of their shape"
                )));
            }
            let shape = info.shape.iter().map(|size| *size as u64).collect();
            tensors.insert(name, Place { dtype: info.dtype, shape, range });
        }
        let said = metadata.metadata().as_ref().and_then(|said| said.get(PROVENANCE));
        let said: Option<Said> = match said {
            None => None,
            Some(text) => Some(serde_json::from_str(text).map_err(|source| {
                invalid(format!("what the statistics are of cannot be read: {source}"))
            })?),
        };
        let (provenance, same) = match said {
            None => (None, BTreeMap::new()),
            Some(said) => (Some(said.provenance), said.same),
        };
        if let Some(other) = provenance.as_ref().filter(|said| said.schema != SCHEMA) {
            return Err(invalid(format!(
                "the statistics have the schema {}, expected {SCHEMA}",
                other.schema
            ))
            .with_hint("calibrate again with this version"));
        }
        if let Some((name, other)) = same.iter().find(|(_, other)| !tensors.contains_key(*other)) {
            return Err(invalid(format!(
                "the statistics of `{name}` are to be those of `{other}`, which are missing"
            )));
        }
        Ok(Self { at, file, provenance, same, tensors, header })
    }

    /// Reads everything: SHA-256 of the file, in lower-case hexadecimal.
    ///
    /// # Errors
    /// A value is NaN or infinite, or the file cannot be read.
    pub fn check_values(&self) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(&self.header);
        let mut places: Vec<(&String, &Place)> = self.tensors.iter().collect();
        places.sort_by_key(|(_, place)| place.range.start);
        let mut buffer = vec![0; STEP];
        for (name, place) in places {
            // NaN stands where no token follows.
            let checked = place.dtype == Dtype::F32 && !name.starts_with(JUDGE);
            let mut from = place.range.start;
            while from < place.range.end {
                let step = &mut buffer[..(place.range.end - from).min(STEP as u64) as usize];
                self.read(step, from)?;
                hash.update(&*step);
                if checked {
                    self.refuse_not_finite(name, step, (from - place.range.start) / 4)?;
                }
                from += step.len() as u64;
            }
        }
        Ok(hex::encode(hash.finalize()))
    }

    fn refuse_not_finite(&self, name: &str, bytes: &[u8], first: u64) -> Result<()> {
        let values = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        match values.enumerate().find(|(_, value)| !value.is_finite()) {
            None => Ok(()),
            Some((at, value)) => Err(self.invalid(&format!(
                "the statistics of `{name}` have the value {value} at {}",
                first + at as u64
            ))),
        }
    }

    /// Names of all weights that there are statistics of.
    pub fn weights(&self) -> impl Iterator<Item = &str> {
        let own = self.tensors.keys().filter(|name| !name.starts_with(JUDGE));
        own.chain(self.same.keys()).map(String::as_str)
    }

    /// What the statistics are of, where the file says it.
    pub fn provenance(&self) -> Option<&Provenance> {
        self.provenance.as_ref()
    }

    /// Where the file is.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// The shape of a weight's statistics: `[inputs]` or `[inputs, inputs]`.
    pub fn shape(&self, weight: &str) -> Option<&[u64]> {
        self.place(weight).map(|place| place.shape.as_slice())
    }

    /// The statistics of a weight, as a tensor with this name.
    ///
    /// # Errors
    /// The file cannot be read, or a value is NaN or infinite.
    pub fn tensor(&self, weight: &str, name: &str) -> Result<Option<Tensor>> {
        let Some(place) = self.place(weight) else { return Ok(None) };
        let bytes = self.bytes(weight)?;
        self.refuse_not_finite(weight, &bytes, 0)?;
        Tensor::new(name, DType::FLOAT32, place.shape.clone(), bytes).map(Some)
    }

    /// The mean squares of a weight's inputs, as a tensor with this name.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    pub fn squares(&self, weight: &str, name: &str) -> Result<Option<Tensor>> {
        let Some(place) = self.place(weight) else { return Ok(None) };
        let [inputs, _] = place.shape[..] else { return self.tensor(weight, name) };
        let mut bytes = vec![0; inputs as usize * 4];
        for (at, value) in bytes.chunks_exact_mut(4).enumerate() {
            let offset = place.range.start + at as u64 * (inputs + 1) * 4;
            if offset + 4 > place.range.end {
                return Err(
                    self.invalid(&format!("the statistics of `{weight}` are not a square matrix"))
                );
            }
            self.read(value, offset)?;
        }
        self.refuse_not_finite(weight, &bytes, 0)?;
        Tensor::new(name, DType::FLOAT32, [inputs], bytes).map(Some)
    }

    /// The bytes of a tensor; none where it is missing.
    pub(crate) fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let Some(place) = self.place(name) else { return Ok(Vec::new()) };
        let mut bytes = vec![0; (place.range.end - place.range.start) as usize];
        self.read(&mut bytes, place.range.start)?;
        Ok(bytes)
    }

    /// The elements of a float32 tensor; none where it is missing.
    pub(crate) fn floats(&self, name: &str) -> Result<Vec<f32>> {
        let bytes = self.bytes(name)?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    /// The elements of a uint32 tensor; none where it is missing.
    pub(crate) fn integers(&self, name: &str) -> Result<Vec<u32>> {
        let bytes = self.bytes(name)?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect())
    }

    fn place(&self, weight: &str) -> Option<&Place> {
        let own = self.same.get(weight).map_or(weight, String::as_str);
        self.tensors.get(own)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        anemll_files::read_exact_at(&self.file, buffer, offset)
            .map_err(|source| self.invalid(&format!("the statistics cannot be read: {source}")))
    }

    /// An error about this file.
    pub fn invalid(&self, reason: &str) -> Error {
        Error::new(codes::STATISTICS_INVALID, reason).with_at(self.at.clone())
    }
}
