//! Arguments of a call, by position or by name.

use super::{Outcome, refuse};
use minijinja::Value;
use minijinja::value::{Kwargs, ValueKind};

/// The arguments that are still to be taken.
pub(crate) struct Arguments<'a> {
    function: &'a str,
    positional: std::slice::Iter<'a, Value>,
    named: Option<Kwargs>,
}

impl<'a> Arguments<'a> {
    /// The arguments of a call of `function`.
    pub(crate) fn new(function: &'a str, values: &'a [Value]) -> Outcome<Self> {
        let (positional, named) = match values.split_last() {
            Some((last, before)) if last.is_kwargs() => {
                (before, Some(Kwargs::try_from(last.clone())?))
            }
            _ => (values, None),
        };
        Ok(Self { function, positional: positional.iter(), named })
    }

    /// The next argument, which may also be given by `name`.
    pub(crate) fn take(&mut self, name: &str) -> Outcome<Option<Value>> {
        if let Some(value) = self.positional.next() {
            return Ok(Some(value.clone()));
        }
        match &self.named {
            Some(named) if named.has(name) => named.get(name).map(Some),
            _ => Ok(None),
        }
    }

    /// As [`Self::take`], where none is as good as no argument.
    pub(crate) fn take_some(&mut self, name: &str) -> Outcome<Option<Value>> {
        Ok(self.take(name)?.filter(|value| !value.is_none()))
    }

    /// An argument that must be there.
    pub(crate) fn need(&mut self, name: &str) -> Outcome {
        let function = self.function;
        self.take(name)?.ok_or_else(|| refuse(format!("`{function}` needs an argument `{name}`")))
    }

    /// A text that must be there.
    pub(crate) fn need_text(&mut self, name: &str) -> Outcome<String> {
        let value = self.need(name)?;
        self.as_text(&value, name)
    }

    /// A text, where it is given and not none.
    pub(crate) fn text(&mut self, name: &str) -> Outcome<Option<String>> {
        self.take_some(name)?.map(|value| self.as_text(&value, name)).transpose()
    }

    /// An integer that must be there.
    pub(crate) fn need_integer(&mut self, name: &str) -> Outcome<i64> {
        let value = self.need(name)?;
        self.as_integer(&value, name)
    }

    /// An integer, where it is given and not none.
    pub(crate) fn integer(&mut self, name: &str) -> Outcome<Option<i64>> {
        self.take_some(name)?.map(|value| self.as_integer(&value, name)).transpose()
    }

    /// Whether an argument is there and true.
    pub(crate) fn flag(&mut self, name: &str) -> Outcome<bool> {
        Ok(self.take(name)?.is_some_and(|value| value.is_true()))
    }

    /// Refuses what was not taken.
    pub(crate) fn finish(mut self) -> Outcome<()> {
        if self.positional.next().is_some() {
            return Err(refuse(format!("`{}` has too many arguments", self.function)));
        }
        self.named.as_ref().map_or(Ok(()), Kwargs::assert_all_used)
    }

    fn as_text(&self, value: &Value, name: &str) -> Outcome<String> {
        value.as_str().map(str::to_owned).ok_or_else(|| {
            refuse(format!("`{}` needs a text for `{name}`, not {}", self.function, value.kind()))
        })
    }

    fn as_integer(&self, value: &Value, name: &str) -> Outcome<i64> {
        let integer = match value.kind() {
            ValueKind::Bool => Some(i64::from(value.is_true())),
            ValueKind::Number if value.is_integer() => i128::try_from(value.clone())
                .ok()
                // As Python clips the bounds of slices.
                .map(|wide| wide.clamp(i64::MIN.into(), i64::MAX.into()) as i64),
            _ => None,
        };
        integer.ok_or_else(|| {
            let kind = value.kind();
            refuse(format!("`{}` needs an integer for `{name}`, not {kind}", self.function))
        })
    }
}
