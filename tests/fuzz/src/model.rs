//! The protobuf reader, and all that is done with what it reads.

use crate::{examine, say, text};

/// Reads the bytes as a model, and does with it all that is done with the models of others.
pub fn model(data: &[u8]) -> String {
    let mut answers = String::new();
    if let Some(model) = say(&mut answers, "read", coreml_proto::read_model(data)) {
        let bytes = coreml_proto::write(&model);
        // Compared as bytes: a model with NaN differs from itself.
        match coreml_proto::read_model(&bytes) {
            Ok(again) => assert!(coreml_proto::write(&again) == bytes, "the model changed"),
            Err(error) => panic!("what was written cannot be read: {error}"),
        }
        examine::examine(&model, &mut answers);
        text::of_model(&model, &mut answers);
        for function in anemll_mil::model::program(&model).into_iter().flat_map(|p| &p.functions) {
            examine::described(function.1, &mut answers);
        }
    }
    answers
}
