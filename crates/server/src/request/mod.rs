//! What clients ask for, read with care: what cannot be honoured is refused by its name.

pub(crate) mod chat;
pub(crate) mod completion;
pub(crate) mod embedding;
pub(crate) mod fields;
pub(crate) mod prompt;
pub(crate) mod settings;
