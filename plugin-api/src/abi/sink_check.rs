//! The accounting of a sink that is lent to a plugin.

use std::collections::BTreeMap;

use super::guard::catch_result;
use crate::sink::misused;
use crate::tensor::byte_length;
use crate::{DType, Error, Result, Sink, codes};

/// A tensor that was announced in this call.
#[derive(Debug)]
pub(super) struct Announced {
    pub(super) name: String,
    pub(super) dtype: DType,
    pub(super) shape: Vec<u64>,
    length: u64,
    written: u64,
    finished: bool,
}

/// A sink as it is given to a plugin for one call.
///
/// It keeps the rules of [`Sink`] itself, so that a sink of the host need not rely on plugins; it
/// turns panics of the host's sink into errors; and after the first failure it takes nothing more.
pub(super) struct LentSink<'a> {
    inner: &'a mut dyn Sink,
    tensors: BTreeMap<u64, Announced>,
    failure: Option<Error>,
}

impl<'a> LentSink<'a> {
    pub(super) fn new(inner: &'a mut dyn Sink) -> Self {
        Self { inner, tensors: BTreeMap::new(), failure: None }
    }

    /// The tensors by id.
    pub(super) fn tensors(&self) -> &BTreeMap<u64, Announced> {
        &self.tensors
    }

    /// The plugin's result, unless the sink had failed underneath it or is not complete.
    pub(super) fn settle<R>(&mut self, result: Result<R>) -> Result<R> {
        match (self.failure.take(), result) {
            (Some(failure), Err(error)) if error.message != failure.message => {
                Err(failure.with_cause(error.to_string()))
            }
            (Some(failure), _) => Err(failure),
            (None, Err(error)) => Err(error),
            (None, Ok(value)) => match self.tensors.values().find(|tensor| !tensor.finished) {
                Some(tensor) => Err(misused(format!(
                    "the tensor was not finished: {} of {} bytes were written",
                    tensor.written, tensor.length
                ))
                .with_at(tensor.name.clone())),
                None => Ok(value),
            },
        }
    }

    fn call<R>(&mut self, entry: &str, function: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let result = catch_result(|panic| panic.in_host(entry), || function(self));
        if let Err(error) = &result {
            self.failure = Some(error.clone());
        }
        result
    }

    fn open(&mut self, id: u64) -> Result<&mut Announced> {
        match self.tensors.get_mut(&id) {
            Some(tensor) if !tensor.finished => Ok(tensor),
            Some(tensor) => Err(misused(format!("the tensor with id {id} was finished before"))
                .with_at(tensor.name.clone())),
            None => Err(misused(format!("no tensor with id {id} was announced in this call"))),
        }
    }
}

impl Sink for LentSink<'_> {
    fn begin(&mut self, name: &str, dtype: DType, shape: &[u64]) -> Result<u64> {
        self.call("sink.begin", |sink| {
            let length = byte_length(name, dtype, shape)?;
            let id = sink.inner.begin(name, dtype, shape)?;
            let announced = Announced {
                name: name.to_owned(),
                dtype,
                shape: shape.to_vec(),
                length,
                written: 0,
                finished: false,
            };
            match sink.tensors.insert(id, announced) {
                None => Ok(id),
                Some(_) => {
                    Err(Error::new(codes::INTERNAL, format!("the sink gave the id {id} twice")))
                }
            }
        })
    }

    fn write(&mut self, id: u64, bytes: &[u8]) -> Result<()> {
        self.call("sink.write", |sink| {
            let tensor = sink.open(id)?;
            let room = tensor.length - tensor.written;
            if bytes.len() as u64 > room {
                return Err(misused(format!(
                    "{} more bytes do not fit: {} of {} bytes are written",
                    bytes.len(),
                    tensor.written,
                    tensor.length
                ))
                .with_at(tensor.name.clone()));
            }
            tensor.written += bytes.len() as u64;
            sink.inner.write(id, bytes)
        })
    }

    fn finish(&mut self, id: u64) -> Result<()> {
        self.call("sink.finish", |sink| {
            let tensor = sink.open(id)?;
            if tensor.written != tensor.length {
                return Err(misused(format!(
                    "the tensor is not complete: {} of {} bytes are written",
                    tensor.written, tensor.length
                ))
                .with_at(tensor.name.clone()));
            }
            tensor.finished = true;
            sink.inner.finish(id)
        })
    }
}
