//! Where a component puts tensors.

use crate::tensor::byte_length;
use crate::{DType, Error, Result, Tensor, codes};

/// Takes tensors piece by piece: announce one, write its bytes in order, finish it.
///
/// Several tensors may be open at once. Whoever reads the sink refuses tensors that were not
/// finished.
pub trait Sink: Send {
    /// Announces a tensor and gives the id under which its bytes are written.
    ///
    /// # Errors
    /// [`codes::TENSOR_SIZE`] when type and shape have no size that can be addressed.
    fn begin(&mut self, name: &str, dtype: DType, shape: &[u64]) -> Result<u64>;

    /// Appends bytes to an open tensor.
    ///
    /// # Errors
    /// [`codes::PLUGIN_SINK_MISUSED`] when the id is not that of an open tensor, or the bytes
    /// exceed the announced size.
    fn write(&mut self, id: u64, bytes: &[u8]) -> Result<()>;

    /// Closes a tensor.
    ///
    /// # Errors
    /// [`codes::PLUGIN_SINK_MISUSED`] when the id is not that of an open tensor, or bytes are
    /// missing.
    fn finish(&mut self, id: u64) -> Result<()>;

    /// Announces, writes and closes a tensor in one go, and gives its id.
    ///
    /// # Errors
    /// Those of the three steps.
    fn tensor(&mut self, name: &str, dtype: DType, shape: &[u64], bytes: &[u8]) -> Result<u64> {
        let id = self.begin(name, dtype, shape)?;
        self.write(id, bytes)?;
        self.finish(id)?;
        Ok(id)
    }
}

/// A sink that keeps the tensors in memory; ids count from 0 in the order of announcement.
///
/// It keeps the rules of [`Sink`] strictly, and never reserves memory for bytes that were announced
/// but not yet written.
#[derive(Debug, Default)]
pub struct MemorySink {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    tensor: Tensor,
    length: u64,
    finished: bool,
}

impl MemorySink {
    /// An empty sink.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of tensors that were announced.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no tensor was announced.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The tensors in the order of announcement; a tensor's place is its id.
    ///
    /// # Errors
    /// [`codes::PLUGIN_SINK_MISUSED`] when one of them was not finished.
    pub fn into_tensors(self) -> Result<Vec<Tensor>> {
        self.entries
            .into_iter()
            .map(|entry| match entry.finished {
                true => Ok(entry.tensor),
                false => Err(misused(format!(
                    "the tensor was not finished: {} of {} bytes were written",
                    entry.tensor.bytes.len(),
                    entry.length
                ))
                .with_at(entry.tensor.name)),
            })
            .collect()
    }

    fn open(&mut self, id: u64) -> Result<&mut Entry> {
        let count = self.entries.len();
        let entry = usize::try_from(id).ok().and_then(|index| self.entries.get_mut(index));
        match entry {
            Some(entry) if !entry.finished => Ok(entry),
            Some(entry) => Err(misused(format!("the tensor with id {id} was finished before"))
                .with_at(entry.tensor.name.clone())),
            None => Err(misused(format!("there is no tensor with id {id}, only {count} tensors"))),
        }
    }
}

impl Sink for MemorySink {
    fn begin(&mut self, name: &str, dtype: DType, shape: &[u64]) -> Result<u64> {
        let length = byte_length(name, dtype, shape)?;
        let id = self.entries.len() as u64;
        let tensor =
            Tensor { name: name.to_owned(), dtype, shape: shape.to_vec(), bytes: Vec::new() };
        self.entries.push(Entry { tensor, length, finished: false });
        Ok(id)
    }

    fn write(&mut self, id: u64, bytes: &[u8]) -> Result<()> {
        let entry = self.open(id)?;
        let written = entry.tensor.bytes.len() as u64;
        let room = entry.length - written;
        if bytes.len() as u64 > room {
            return Err(misused(format!(
                "{} more bytes do not fit: {written} of {} bytes are written",
                bytes.len(),
                entry.length
            ))
            .with_at(entry.tensor.name.clone()));
        }
        entry.tensor.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self, id: u64) -> Result<()> {
        let entry = self.open(id)?;
        let written = entry.tensor.bytes.len() as u64;
        if written != entry.length {
            return Err(misused(format!(
                "the tensor is not complete: {written} of {} bytes are written",
                entry.length
            ))
            .with_at(entry.tensor.name.clone()));
        }
        entry.finished = true;
        Ok(())
    }
}

pub(crate) fn misused(message: String) -> Error {
    Error::new(codes::PLUGIN_SINK_MISUSED, message)
        .with_hint("this is a bug in the plugin; please report it to its author")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_a_tensor() {
        let mut sink = MemorySink::new();
        let first = sink.begin("a", DType::UINT8, &[3]).unwrap();
        let second = sink.tensor("b", DType::UINT4, &[3], &[0x21, 0x03]).unwrap();
        sink.write(first, &[1]).unwrap();
        sink.write(first, &[2, 3]).unwrap();
        sink.finish(first).unwrap();
        assert_eq!((first, second), (0, 1));
        let tensors = sink.into_tensors().unwrap();
        assert_eq!(tensors[0].bytes, [1, 2, 3]);
        assert_eq!(tensors[1].shape, [3]);
    }

    #[test]
    fn misuse_is_refused() {
        let mut sink = MemorySink::new();
        let id = sink.begin("a", DType::UINT8, &[2]).unwrap();
        let code = |result: Result<()>| result.unwrap_err().code;
        assert_eq!(code(sink.write(id, &[0; 3])), codes::PLUGIN_SINK_MISUSED);
        assert_eq!(code(sink.write(id + 1, &[0])), codes::PLUGIN_SINK_MISUSED);
        assert_eq!(code(sink.write(u64::MAX, &[0])), codes::PLUGIN_SINK_MISUSED);
        assert_eq!(code(sink.finish(id)), codes::PLUGIN_SINK_MISUSED);
        sink.write(id, &[1, 2]).unwrap();
        sink.finish(id).unwrap();
        assert_eq!(code(sink.finish(id)), codes::PLUGIN_SINK_MISUSED);
        assert_eq!(code(sink.write(id, &[])), codes::PLUGIN_SINK_MISUSED);
    }

    #[test]
    fn an_unfinished_tensor_is_not_given_out() {
        let mut sink = MemorySink::new();
        // Larger than any memory: the announcement alone must not reserve it.
        sink.begin("huge", DType::UINT8, &[1 << 60]).unwrap();
        let error = sink.into_tensors().unwrap_err();
        assert_eq!(error.code, codes::PLUGIN_SINK_MISUSED);
        assert_eq!(error.at.as_deref(), Some("huge"));
    }
}
