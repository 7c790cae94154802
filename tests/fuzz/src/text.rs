//! The parser and the writer of MIL texts.

use crate::{examine, say};
use anemll_mil::text::{self, TextOptions};
use coreml_proto::Model;

/// Reads the bytes as a MIL text. What is written of it must read back as the same program and the
/// same text; its functions go through the validator.
pub fn mil_text(data: &[u8]) -> String {
    let mut answers = String::new();
    let Some(source) = say(&mut answers, "utf-8", std::str::from_utf8(data)) else {
        return answers;
    };
    if let Some(document) = say(&mut answers, "parse", text::parse(source)) {
        document.build_info();
        if let Some(written) = say(&mut answers, "write", document.to_text()) {
            reads_back(&written);
        }
        for function in document.program.functions.values() {
            examine::described(function, &mut answers);
        }
    }
    answers
}

/// Writes the text of a model, which must read back.
pub(crate) fn of_model(model: &Model, answers: &mut String) {
    text::guesses(model);
    let written = text::to_text(model, &TextOptions::default());
    if let Some(written) = say(answers, "text", written) {
        reads_back(&written);
    }
}

fn reads_back(written: &str) {
    match text::parse(written) {
        Ok(again) => {
            let twice = again.to_text();
            assert_eq!(twice.ok().as_deref(), Some(written), "the text changed");
        }
        Err(error) => panic!("what was written cannot be read: {error}\n{written}"),
    }
}
