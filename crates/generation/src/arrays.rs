//! NumPy arrays of others, read with care: what a header promises is compared with what is wanted
//! and what the file has before anything is made for it.

use anemll_plugin_api::{Error, Result, codes};
use npyz::{DType, NpyFile, TypeChar};
use std::fs::File;
use std::io::{BufReader, Chain, Cursor, Read};
use std::path::Path;

/// Bytes of the longest header.
const LONGEST_HEADER: usize = 4096;
/// Most elements of an array whose size is not known beforehand.
pub const MOST_ELEMENTS: u64 = 64 << 20;

type Archive = npyz::npz::NpzArchive<BufReader<File>>;

/// An array whose header was read.
pub struct Array<'a, R: Read> {
    file: NpyFile<Chain<Cursor<Vec<u8>>, R>>,
    path: &'a Path,
    name: String,
}

/// A .npz file.
pub struct Arrays<'a> {
    archive: Archive,
    path: &'a Path,
}

/// Opens a .npy file.
///
/// # Errors
/// It is no regular file or no array, or has not the size that its header says.
pub fn open(path: &Path) -> Result<Array<'_, BufReader<File>>> {
    let file = open_file(path)?;
    let size = file.metadata().map_err(|source| invalid(path, &source.to_string()))?.len();
    let (array, header) = Array::read(BufReader::new(file), path, String::new())?;
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
        let archive = Archive::new(BufReader::new(open_file(path)?))
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
            .zip_archive()
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
    fn read(mut reader: R, path: &'a Path, name: String) -> Result<(Self, u64)> {
        let failed = |reason: &str| invalid(path, &format!("{name}{reason}"));
        let mut start = vec![0; 10];
        reader.read_exact(&mut start).map_err(|_| failed("it is no .npy array"))?;
        if !start.starts_with(b"\x93NUMPY") {
            return Err(failed("it is no .npy array"));
        }
        let mut length = usize::from(u16::from_le_bytes([start[8], start[9]]));
        if start[6] > 1 {
            let mut more = [0; 2];
            reader.read_exact(&mut more).map_err(|_| failed("its header ends early"))?;
            length += usize::from(u16::from_le_bytes(more)) << 16;
            start.extend(more);
        }
        if length > LONGEST_HEADER {
            return Err(failed("its header is too long"));
        }
        let before = start.len();
        start.resize(before + length, 0);
        reader.read_exact(&mut start[before..]).map_err(|_| failed("its header ends early"))?;
        // The library's time grows with the power of the depth; no header of an array nests.
        let opening = start[before..].iter().filter(|byte| b"([{".contains(byte)).count();
        if opening > 2 {
            return Err(failed("its header is not that of a plain array"));
        }
        if !size_is_possible(&start[before..]) {
            return Err(failed("its header promises more than a file can hold"));
        }
        let header = start.len() as u64;
        let file = NpyFile::new(Cursor::new(start).chain(reader))
            .map_err(|source| failed(&source.to_string()))?;
        Ok((Self { file, path, name }, header))
    }

    /// An error about this array.
    pub fn invalid(&self, reason: &str) -> Error {
        invalid(self.path, &format!("{}{reason}", self.name))
    }

    /// Its shape.
    pub fn shape(&self) -> Vec<u64> {
        self.file.shape().to_vec()
    }

    fn elements(&self) -> Option<u64> {
        self.file.shape().iter().try_fold(1_u64, |product, size| product.checked_mul(*size))
    }

    fn bytes(&self) -> Option<u64> {
        let (_, size) = self.kind()?;
        self.elements()?.checked_mul(size)
    }

    fn kind(&self) -> Option<(TypeChar, u64)> {
        match self.file.dtype() {
            DType::Plain(plain) => Some((plain.type_char(), plain.size_field())),
            _ => None,
        }
    }

    fn check_elements(&self, most: u64) -> Result<()> {
        if self.file.order() != npyz::Order::C {
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
        match self.kind() {
            Some((TypeChar::Int, 4)) => self.collect(|value: i32| id(value.into())),
            Some((TypeChar::Int, 8)) => self.collect(id),
            Some((TypeChar::Uint, 4)) => self.collect(|value: u32| id(value.into())),
            _ => Err(self.invalid("token ids must be int32, int64 or uint32")),
        }
    }

    /// Elements as numbers, at most `most`, all finite.
    ///
    /// # Errors
    /// There are more, they are no numbers, or in another order than row by row.
    pub fn floats(self, most: u64) -> Result<Vec<f32>> {
        self.check_elements(most)?;
        match self.kind() {
            Some((TypeChar::Float, 2)) => self.finite(half::f16::to_f32),
            Some((TypeChar::Float, 4)) => self.finite(|value: f32| value),
            Some((TypeChar::Float, 8)) => self.finite(|value: f64| value as f32),
            Some((TypeChar::Int, 4)) => self.finite(|value: i32| value as f32),
            Some((TypeChar::Int, 8)) => self.finite(|value: i64| value as f32),
            _ => Err(self.invalid("elements must be float16, float32, float64, int32 or int64")),
        }
    }

    /// A reference that holds no number has nothing to say.
    fn finite<T: npyz::Deserialize>(self, number: impl Fn(T) -> f32) -> Result<Vec<f32>> {
        let (path, name, mut at) = (self.path, self.name.clone(), 0_u64);
        self.collect(|value| {
            let value = number(value);
            at += 1;
            if value.is_finite() {
                return Ok(value);
            }
            Err(invalid(path, &format!("{name}element {} is {value}", at - 1)))
        })
    }

    fn collect<T: npyz::Deserialize, U>(
        self,
        mut element: impl FnMut(T) -> Result<U>,
    ) -> Result<Vec<U>> {
        let (path, name) = (self.path, self.name);
        let failed = |reason: &str| invalid(path, &format!("{name}{reason}"));
        let data = self.file.data::<T>().map_err(|error| failed(&error.to_string()))?;
        let mut values = Vec::new();
        for value in data {
            values.push(element(value.map_err(|source| failed(&source.to_string()))?)?);
        }
        Ok(values)
    }
}

/// Whether the product of a shape's sizes, times any size of an element, is a number at all: the
/// library multiplies without looking.
fn size_is_possible(header: &[u8]) -> bool {
    let text = String::from_utf8_lossy(header);
    let shape = text.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    let sizes = shape.map_or("", |(sizes, _)| sizes).split(',').map(str::trim);
    let mut sizes = sizes.filter(|size| !size.is_empty());
    sizes.try_fold(1_u64 << 16, |product, size| product.checked_mul(size.parse().ok()?)).is_some()
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
