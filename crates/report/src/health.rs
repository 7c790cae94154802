//! Checks of a machine: how well each thing is, and what to do where it is not.

use anemll_terminal::{BAD, Cell, Column, DOUBTFUL, GOOD, Table};
use serde::Serialize;

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// As it should be.
    Ok,
    /// Something will not work, or not well, and can be mended.
    Warn,
    /// Nothing can be converted.
    Fail,
}

/// What a check found.
#[derive(Debug, Serialize)]
pub struct Line {
    /// What was looked at.
    pub topic: &'static str,
    /// How well it is.
    pub status: Health,
    /// What was found.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Line {
    /// What a check found.
    pub fn new(topic: &'static str, status: Health, message: impl Into<String>) -> Self {
        Self { topic, status, message: message.into(), hint: None }
    }

    /// The same, and what to do.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// The lines as a table.
pub fn text(lines: &[Line], width: Option<usize>) -> String {
    let mut table = Table::new(&[Column::Left, Column::Left, Column::Text]).without_indent();
    for Line { topic, status, message, hint } in lines {
        let status = match status {
            Health::Ok => Cell::styled("ok", GOOD),
            Health::Warn => Cell::styled("warn", DOUBTFUL),
            Health::Fail => Cell::styled("fail", BAD),
        };
        table.row([status, Cell::from(*topic), Cell::from(message.as_str())]);
        if let Some(hint) = hint {
            table.row([Cell::from(""), Cell::from(""), Cell::from(hint.as_str())]);
        }
    }
    table.render(width)
}

/// How many checks failed.
pub fn failed(lines: &[Line]) -> usize {
    lines.iter().filter(|line| line.status == Health::Fail).count()
}
