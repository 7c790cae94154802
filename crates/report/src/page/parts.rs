//! What the templates of several pages show.

use serde::Serialize;

/// The first entries of a list.
#[derive(Serialize)]
pub(crate) struct List<T> {
    pub(crate) items: Vec<T>,
    /// How many more there are.
    pub(crate) left: usize,
}

impl<T> List<T> {
    pub(crate) fn of(all: impl ExactSizeIterator<Item = T>, limit: usize) -> Self {
        Self { left: all.len().saturating_sub(limit), items: all.take(limit).collect() }
    }
}

/// A number at the head of a page.
#[derive(Serialize)]
pub(crate) struct Fact {
    pub(crate) title: &'static str,
    pub(crate) value: String,
    pub(crate) note: String,
}

/// A section; the template of the same name makes it.
#[derive(Serialize)]
pub(crate) struct Section {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) number: Option<usize>,
}
