//! Methods of lists, tuples and dictionaries that change nothing.

use super::arguments::Arguments;
use super::{Outcome, refuse};
use minijinja::value::{Enumerator, Object, ObjectRepr, Tuple};
use minijinja::{Error, ErrorKind, Value};
use std::sync::Arc;

/// Methods that would change a list or dictionary; the sandbox of transformers forbids them.
const CHANGING: [&str; 13] = [
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "popitem",
    "remove",
    "reverse",
    "setdefault",
    "sort",
    "update",
    "__setitem__",
    "__delitem__",
];

/// What `items()`, `keys()` and `values()` of a dictionary give.
#[derive(Debug)]
pub(crate) struct View {
    name: &'static str,
    items: Vec<Value>,
}

impl View {
    /// How its text begins.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }
}

impl Object for View {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.items.clone())
    }
}

/// A method of a list or tuple.
pub(crate) fn call_sequence(value: &Value, method: &str, arguments: &[Value]) -> Outcome {
    refuse_change(method)?;
    let mut arguments = Arguments::new(method, arguments)?;
    let result = match method {
        "count" => {
            let wanted = arguments.need("value")?;
            let mut count = 0_usize;
            for item in value.try_iter()?.checked() {
                count += usize::from(item? == wanted);
            }
            Value::from(count)
        }
        "index" => {
            let wanted = arguments.need("value")?;
            let (start, end) = (arguments.integer("start")?, arguments.integer("end")?);
            let items: Vec<Value> = value.try_iter()?.checked().collect::<Outcome<_>>()?;
            let (start, end) = clip(start, end, items.len());
            let found = (start..end).find(|index| items[*index] == wanted);
            found.map(Value::from).ok_or_else(|| refuse("`index`: the value is not in the list"))?
        }
        "copy" if !value.is_tuple() => {
            value.try_iter()?.checked().collect::<Outcome<Vec<_>>>()?.into()
        }
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    };
    arguments.finish()?;
    Ok(result)
}

/// A method of a dictionary.
pub(crate) fn call_mapping(value: &Value, method: &str, arguments: &[Value]) -> Outcome {
    let mut arguments = Arguments::new(method, arguments)?;
    let keys = || value.try_iter()?.checked().collect::<Outcome<Vec<Value>>>();
    let result = match method {
        "keys" => Value::from_object(View { name: "dict_keys([", items: keys()? }),
        "values" => {
            let items = keys()?.iter().map(|key| value.get_item(key)).collect::<Outcome<_>>()?;
            Value::from_object(View { name: "dict_values([", items })
        }
        "items" => {
            let pair = |key: Value| {
                let item = value.get_item(&key)?;
                Ok(Value::from(Tuple::from([key, item])))
            };
            let items = keys()?.into_iter().map(pair).collect::<Outcome<_>>()?;
            Value::from_object(View { name: "dict_items([", items })
        }
        "get" => {
            let key = arguments.need("key")?;
            let default = arguments.take("default")?.unwrap_or_else(|| Value::from(()));
            let object = value.as_object().ok_or_else(|| Error::from(ErrorKind::UnknownMethod))?;
            object.get_value(&key).unwrap_or(default)
        }
        "copy" => {
            let pair = |key: Value| Ok((key.clone(), value.get_item(&key)?));
            Value::from_pairs(keys()?.into_iter().map(pair).collect::<Outcome<Vec<_>>>()?)
        }
        _ => {
            refuse_change(method)?;
            return Err(Error::from(ErrorKind::UnknownMethod));
        }
    };
    arguments.finish()?;
    Ok(result)
}

fn refuse_change(method: &str) -> Outcome<()> {
    if CHANGING.contains(&method) {
        return Err(refuse(format!("`{method}` would change a value, which templates may not")));
    }
    Ok(())
}

/// The positions that a slice from `start` to `end` of `length` items has.
pub(crate) fn clip(start: Option<i64>, end: Option<i64>, length: usize) -> (usize, usize) {
    let position = |bound: i64| match usize::try_from(bound) {
        Ok(bound) => bound.min(length),
        Err(_) => length.saturating_sub(usize::try_from(bound.unsigned_abs()).unwrap_or(length)),
    };
    let start = start.map_or(0, position);
    (start, end.map_or(length, position).max(start))
}
