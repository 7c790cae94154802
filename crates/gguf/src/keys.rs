//! The keys of a model, as the types that they must have.

use crate::container::Container;
use crate::error::{Error, Result};
use crate::value::{List, Value};

/// The largest number that a size may have: shapes are int32 in a program.
const LARGEST_SIZE: u64 = i32::MAX as u64;

/// The metadata of a model, its keys without the architecture before them.
pub(crate) struct Keys<'a> {
    pub(crate) container: &'a Container,
    /// The architecture.
    pub(crate) prefix: &'static str,
}

impl<'a> Keys<'a> {
    pub(crate) fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    pub(crate) fn size(&self, key: &str) -> Result<Option<u64>> {
        let sizes = "a whole number of up to 2147483647";
        self.container.typed(&self.full(key), sizes, |value| {
            same_size(value).filter(|size| *size <= LARGEST_SIZE)
        })
    }

    /// As [`Self::size`], of a list in which some are zero and the others the same.
    pub(crate) fn size_of_some(&self, key: &str) -> Result<Option<u64>> {
        let size = |value: &Value| {
            let Value::List(list @ List::Plain(_)) = value else { return value.size() };
            let sizes: Option<Vec<u64>> = list.values().map(|value| value.size()).collect();
            let mut some = sizes?.into_iter().filter(|size| *size > 0);
            let first = some.next()?;
            some.all(|size| size == first).then_some(first)
        };
        self.container.typed(&self.full(key), "a whole number", size)
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>> {
        let finite = |value: &Value| value.number().filter(|number| number.is_finite());
        self.container.typed(&self.full(key), "a number", finite)
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.container.typed(&self.full(key), "a text", Value::text)
    }

    pub(crate) fn truth(&self, key: &str) -> Result<Option<bool>> {
        self.container.typed(&self.full(key), "true or false", Value::boolean)
    }

    pub(crate) fn needed(&self, key: &str) -> Result<u64> {
        match self.size(key)? {
            None => Err(self.missing(key)),
            Some(0) => Err(Error::invalid("is 0, not a number from 1 on").with_key(self.full(key))),
            Some(size) => Ok(size),
        }
    }

    pub(crate) fn missing(&self, key: &str) -> Error {
        Error::invalid("the key is missing").with_key(self.full(key))
    }

    /// Rows of a head.
    pub(crate) fn head_dimension(&self) -> Result<u64> {
        match self.size("attention.key_length")? {
            Some(length) => Ok(length),
            None => Ok(self.needed("embedding_length")? / self.needed("attention.head_count")?),
        }
    }

    pub(crate) fn has(&self, tensor: &str) -> bool {
        self.container.tensor(&format!("blk.0.{tensor}")).is_some()
    }
}

/// A whole number, or a list in which all are the same.
fn same_size(value: &Value) -> Option<u64> {
    let Value::List(list @ List::Plain(_)) = value else { return value.size() };
    let mut sizes = list.values().map(|value| value.size());
    let first = sizes.next()??;
    sizes.all(|size| size == Some(first)).then_some(first)
}
