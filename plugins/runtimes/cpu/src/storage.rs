//! Buffers that hold the elements of values, and their reuse.

use crate::element::Element;
use crate::failure::{Outcome, invalid};
use bytemuck::Pod;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes aligned for every element type.
#[derive(Debug, Default, Clone)]
pub(crate) struct Buffer {
    words: Vec<u64>,
    bytes: usize,
}

impl Buffer {
    /// A buffer of zero bytes; an error where there is not so much memory.
    pub(crate) fn zeroed(bytes: usize) -> Outcome<Self> {
        let mut words = Vec::new();
        if words.try_reserve_exact(bytes.div_ceil(8)).is_err() {
            return invalid(format!("no memory for a value of {bytes} bytes"));
        }
        words.resize(bytes.div_ceil(8), 0);
        Ok(Self { words, bytes })
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut buffer = Self { words: vec![0; bytes.len().div_ceil(8)], bytes: bytes.len() };
        buffer.bytes_mut().copy_from_slice(bytes);
        buffer
    }

    pub(crate) fn from_slice<T: Pod>(values: &[T]) -> Self {
        Self::from_bytes(bytemuck::cast_slice(values))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.bytes]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.bytes]
    }

    /// The whole buffer as elements of a type that fits its size.
    pub(crate) fn slice<T: Pod>(&self) -> &[T] {
        bytemuck::cast_slice(self.bytes())
    }

    pub(crate) fn slice_mut<T: Pod>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(self.bytes_mut())
    }
}

/// Where the elements of a value are: a buffer of the run, a constant, or a weight.
#[derive(Clone, Debug)]
pub(crate) struct Storage(Arc<Buffer>);

impl Storage {
    pub(crate) fn new(buffer: Arc<Buffer>) -> Self {
        Self(buffer)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// The buffer, which others may hold, too.
    pub(crate) fn into_shared(self) -> Arc<Buffer> {
        self.0
    }

    /// True when both are the same buffer.
    pub(crate) fn is_shared_with(&self, other: &Self) -> bool {
        self.is(&other.0)
    }

    /// True when both are the same buffer.
    pub(crate) fn is(&self, buffer: &Arc<Buffer>) -> bool {
        Arc::ptr_eq(&self.0, buffer)
    }
}

/// Buffers that are free for reuse, by size. Contents are stale: takers overwrite all of them.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: Mutex<HashMap<usize, Vec<Vec<u64>>>>,
}

/// Free buffers of one size that the pool keeps at most.
const KEPT_PER_SIZE: usize = 16;

impl Pool {
    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Vec<Vec<u64>>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer of this size with unspecified contents; an error where memory is short.
    pub(crate) fn take(&self, bytes: usize) -> Outcome<Buffer> {
        let reused = self.lock().get_mut(&bytes.div_ceil(8)).and_then(Vec::pop);
        match reused {
            Some(words) => Ok(Buffer { words, bytes }),
            None => Buffer::zeroed(bytes),
        }
    }

    /// A buffer for `count` elements, with unspecified contents.
    pub(crate) fn take_elements(&self, element: Element, count: usize) -> Outcome<Buffer> {
        match element.bytes_of(count) {
            Some(bytes) => self.take(bytes),
            None => invalid(format!("{count} elements are too many")),
        }
    }

    /// Takes a buffer back.
    pub(crate) fn give(&self, buffer: Buffer) {
        let mut free = self.lock();
        let list = free.entry(buffer.words.len()).or_default();
        if list.len() < KEPT_PER_SIZE {
            list.push(buffer.words);
        }
    }

    /// Takes the buffer of a value back when nothing else holds it.
    pub(crate) fn recycle(&self, storage: Storage) {
        if let Ok(buffer) = Arc::try_unwrap(storage.0) {
            self.give(buffer);
        }
    }
}
