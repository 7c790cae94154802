//! NumPy arrays of others, read with care: what a header promises is compared with what is wanted
//! and what the file has before anything is made for it.

use crate::npy_header::{Header, Kind};
use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use zip::ZipArchive;

/// Bytes of the longest header.
const LONGEST_HEADER: usize = 4096;
/// Most elements of an array whose size is not known beforehand.
pub const MOST_ELEMENTS: u64 = 64 << 20;

/// An array whose header was read.
pub struct Array<'a, R: Read> {
    header: Header,
    /// The elements.
    data: BufReader<R>,
    path: &'a Path,
    name: String,
}

/// A .npz file.
pub struct Arrays<'a> {
    archive: ZipArchive<BufReader<File>>,
    path: &'a Path,
}

/// Opens a .npy file.
///
/// # Errors
/// It is no regular file or no array, or has not the size that its header says.
pub fn open(path: &Path) -> Result<Array<'_, File>> {
    let file = open_file(path)?;
    let size = file.metadata().map_err(|source| invalid(path, &source.to_string()))?.len();
    let (array, header) = Array::read(file, path, String::new())?;
    let data = size.saturating_sub(header);
    match array.bytes() {
        Some(bytes) if bytes == data => Ok(array),
        Some(bytes) => Err(invalid(
            path,
            &format!("its header promises {bytes} bytes of elements, and the file has {data}"),
        )),
        None => Err(array.invalid("its header promises more than a file can hold")),
    }
}

impl<'a> Arrays<'a> {
    /// Opens a .npz file.
    ///
    /// # Errors
    /// It is no regular file or no archive.
    pub fn open(path: &'a Path) -> Result<Self> {
        let archive = ZipArchive::new(BufReader::new(open_file(path)?))
            .map_err(|source| invalid(path, &source.to_string()))?;
        Ok(Self { archive, path })
    }

    /// An array by its name.
    ///
    /// # Errors
    /// There is no such array, it is damaged, or the archive has other bytes for it than its header
    /// promises, which is how files are made that grow without end when they are unpacked.
    pub fn array(&mut self, name: &str) -> Result<Array<'a, impl Read>> {
        let member = self
            .archive
            .by_name(&format!("{name}.npy"))
            .map_err(|source| invalid(self.path, &format!("the array `{name}`: {source}")))?;
        let size = member.size();
        let (array, header) = Array::read(member, self.path, format!("`{name}`: "))?;
        let data = size.saturating_sub(header);
        match array.bytes() {
            Some(bytes) if bytes != data => Err(array.invalid(&format!(
                "its header promises {bytes} bytes of elements, and the archive has {data}"
            ))),
            _ => Ok(array),
        }
    }
}

impl<'a, R: Read> Array<'a, R> {
    /// Reads a header; also how many bytes it has.
    fn read(reader: R, path: &'a Path, name: String) -> Result<(Self, u64)> {
        let mut reader = BufReader::new(reader);
        let failed = |reason: &str| invalid(path, &format!("{name}{reason}"));
        let mut start = [0; 10];
        reader.read_exact(&mut start).map_err(|_| failed("it is no .npy array"))?;
        if !start.starts_with(b"\x93NUMPY") {
            return Err(failed("it is no .npy array"));
        }
        let mut longer = 0;
        let mut length = usize::from(u16::from_le_bytes([start[8], start[9]]));
        if start[6] > 1 {
            let mut more = [0; 2];
            reader.read_exact(&mut more).map_err(|_| failed("its header ends early"))?;
            length += usize::from(u16::from_le_bytes(more)) << 16;
            longer = 2;
        }
        if length > LONGEST_HEADER {
            return Err(failed("its header is too long"));
        }
        let mut text = vec![0; length];
        reader.read_exact(&mut text).map_err(|_| failed("its header ends early"))?;
        let header = std::str::from_utf8(&text).ok().and_then(Header::parse);
        let header = header.ok_or_else(|| failed("its header is not that of a plain array"))?;
        let bytes = (start.len() + longer + length) as u64;
        let array = Self { header, data: reader, path, name };
        if array.bytes().is_none() {
            return Err(array.invalid("its header promises more than a file can hold"));
        }
        Ok((array, bytes))
    }

    /// An error about this array.
    pub fn invalid(&self, reason: &str) -> Error {
        invalid(self.path, &format!("{}{reason}", self.name))
    }

    /// Its shape.
    pub fn shape(&self) -> Vec<u64> {
        self.header.shape.clone()
    }

    fn elements(&self) -> Option<u64> {
        self.header.shape.iter().try_fold(1_u64, |product, size| product.checked_mul(*size))
    }

    fn bytes(&self) -> Option<u64> {
        self.elements()?.checked_mul(self.header.size)
    }

    fn check_elements(&self, most: u64) -> Result<()> {
        if self.header.fortran_order {
            return Err(self.invalid("the array is in Fortran order; save it in C order"));
        }
        if self.elements().is_some_and(|count| count <= most) {
            return Ok(());
        }
        Err(self.invalid(&format!("shape {:?}, at most {most} elements are read", self.shape())))
    }

    /// Elements as token ids, at most `most`.
    ///
    /// # Errors
    /// There are more, they are no integers, or one is negative.
    pub fn token_ids(self, most: u64) -> Result<Vec<u32>> {
        self.check_elements(most)?;
        let (path, name) = (self.path, self.name.clone());
        let id = |value: i64| {
            u32::try_from(value).map_err(|_| invalid(path, &format!("{name}token id {value}")))
        };
        match (self.header.kind, self.header.size) {
            (Kind::Int, 4) => self.collect(|bytes| id(i32::from_le_bytes(bytes).into())),
            (Kind::Int, 8) => self.collect(|bytes| id(i64::from_le_bytes(bytes))),
            (Kind::Uint, 4) => self.collect(|bytes| id(u32::from_le_bytes(bytes).into())),
            _ => Err(self.invalid("token ids must be int32, int64 or uint32")),
        }
    }

    /// Elements as numbers, at most `most`, all finite.
    ///
    /// # Errors
    /// There are more, they are no numbers, or in another order than row by row.
    pub fn floats(self, most: u64) -> Result<Vec<f32>> {
        self.check_elements(most)?;
        match (self.header.kind, self.header.size) {
            (Kind::Float, 2) => self.finite(|bytes| half::f16::from_le_bytes(bytes).to_f32()),
            (Kind::Float, 4) => self.finite(f32::from_le_bytes),
            (Kind::Float, 8) => self.finite(|bytes| f64::from_le_bytes(bytes) as f32),
            (Kind::Int, 4) => self.finite(|bytes| i32::from_le_bytes(bytes) as f32),
            (Kind::Int, 8) => self.finite(|bytes| i64::from_le_bytes(bytes) as f32),
            _ => Err(self.invalid("elements must be float16, float32, float64, int32 or int64")),
        }
    }

    /// A reference that holds no number has nothing to say.
    fn finite<const N: usize>(self, number: impl Fn([u8; N]) -> f32) -> Result<Vec<f32>> {
        let (path, name, mut at) = (self.path, self.name.clone(), 0_u64);
        self.collect(|bytes| {
            let value = number(bytes);
            at += 1;
            if value.is_finite() {
                return Ok(value);
            }
            Err(invalid(path, &format!("{name}element {} is {value}", at - 1)))
        })
    }

    /// Each element made from its bytes, the lowest first.
    fn collect<const N: usize, U>(
        mut self,
        mut element: impl FnMut([u8; N]) -> Result<U>,
    ) -> Result<Vec<U>> {
        let mut values = Vec::new();
        for _ in 0..self.elements().unwrap_or(0) {
            let mut bytes = [0; N];
            let read = self.data.read_exact(&mut bytes);
            read.map_err(|source| self.invalid(&source.to_string()))?;
            if self.header.big_endian {
                bytes.reverse();
            }
            values.push(element(bytes)?);
        }
        Ok(values)
    }
}

fn open_file(path: &Path) -> Result<File> {
    anemll_files::open(path).map_err(|source| invalid(path, &source.to_string()))
}

/// An error about a file of arrays.
pub fn invalid(path: &Path, reason: &str) -> Error {
    Error::new(codes::EVALUATION_INPUT, format!("the array cannot be used: {reason}"))
        .with_at(path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn refused(bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids.npy");
        std::fs::write(&path, bytes).unwrap();
        let result = open(&path).and_then(|array| array.token_ids(MOST_ELEMENTS));
        let error = result.unwrap_err();
        assert_eq!(error.code, codes::EVALUATION_INPUT);
        error.message
    }

    #[test]
    fn plain_arrays_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids.npy");
        let header = "{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }\n";
        std::fs::write(&path, npy(header, &[1, 0, 0, 0, 2, 1, 0, 0])).unwrap();
        assert_eq!(open(&path).unwrap().shape(), [2]);
        assert_eq!(open(&path).unwrap().token_ids(9).unwrap(), [1, 258]);
        assert_eq!(open(&path).unwrap().floats(9).unwrap(), [1.0, 258.0]);
        assert!(open(&path).unwrap().token_ids(1).is_err());
        let turned = "{'descr': '>i4', 'fortran_order': False, 'shape': (2,), }\n";
        std::fs::write(&path, npy(turned, &[0, 0, 0, 1, 0, 0, 1, 2])).unwrap();
        assert_eq!(open(&path).unwrap().token_ids(9).unwrap(), [1, 258]);
    }

    #[test]
    fn promises_that_no_file_keeps_are_refused_at_once() {
        let header = |shape: &str| {
            format!("{{'descr': '<i4', 'fortran_order': False, 'shape': {shape}, }}\n")
        };
        let long = npy(&header("(1000000000000,)"), &[0; 4]);
        assert!(refused(&long).contains("and the file has 4"));
        let longer = npy(&header("(9999999999, 9999999999)"), &[]);
        assert!(refused(&longer).contains("more than a file can hold"));
        assert!(refused(&npy(&"(".repeat(33), &[])).contains("not that of a plain array"));
        assert!(refused(&npy(&"{".repeat(33), &[])).contains("not that of a plain array"));
        assert!(refused(&npy(&header("(2,)"), &[0; 4])).contains("promises 8 bytes"));
        assert!(refused(b"\x93NUMPY\x02\x00\xff\xff\xff\xff").contains("too long"));
        assert!(refused(b"").contains("no .npy array"));
        let turned = "{'descr': '<i4', 'fortran_order': True, 'shape': (2, 2), }\n";
        assert!(refused(&npy(turned, &[0; 16])).contains("Fortran"));
        let negative = npy(&header("(1,)"), &(-1_i32).to_le_bytes());
        assert!(refused(&negative).contains("token id -1"));
    }
    #[test]
    fn a_reference_that_is_not_finite_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logits.npy");
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n";
        let bytes = [1.0_f32, f32::NAN].map(f32::to_le_bytes).concat();
        std::fs::write(&path, npy(header, &bytes)).unwrap();
        let error = open(&path).unwrap().floats(2).unwrap_err();
        assert!(error.message.contains("element 1 is NaN"), "{error}");
    }
}
