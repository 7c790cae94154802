//! Conversations with a conversion: on a terminal with an editor of lines and commands, in a pipe, or
//! of one question.

mod chat;
mod commands;
mod editor;
mod lines;
mod prompt_file;
mod summary;
mod terminal;

pub use chat::{Chat, Console, Settings};
pub use lines::answer_lines;
pub use prompt_file::prompt_of;
pub use summary::summary;
pub use terminal::{converse, is_possible};
