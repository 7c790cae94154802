//! Joining functions into one model.

use anemll_plugin_api::data::{CombineOptions, NamedFunction};
use anemll_plugin_api::{Error, Host, Result, codes};

/// Joins functions into a serialized multifunction model: each the only one of its model, or of
/// several the one that has the wanted name. Models of any tool will do; functions keep their
/// operation set. Weights are not touched: they are offsets into one weight file, or references, and
/// stay as they are.
///
/// # Errors
/// [`codes::GRAPH_COMBINE`] for functions that cannot be read, or cannot stand together;
/// [`codes::CANCELLED`].
pub fn combine(
    functions: &[NamedFunction<'_>],
    options: &CombineOptions,
    host: &Host,
) -> Result<Vec<u8>> {
    let mut models = Vec::with_capacity(functions.len());
    for function in functions {
        host.check_cancelled()?;
        let model = coreml_proto::read_model(function.model).map_err(|error| {
            Error::new(codes::GRAPH_COMBINE, "a function to be combined cannot be read")
                .with_at(format!("function {}", function.name))
                .with_source(&error)
        })?;
        models.push((function.name, model));
    }
    let combined = anemll_mil::combine_functions(
        &models,
        &options.default_function,
        &options.short_description,
        &options.metadata,
    )
    .map_err(|error| Error::new(codes::GRAPH_COMBINE, error.to_string()))?;
    Ok(coreml_proto::write(&combined))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anemll_mil::{DataType, DescriptionOptions, FunctionBuilder, TensorType, function_model};

    /// A function that doubles `tokens` rows.
    fn doubled(tokens: u64) -> Vec<u8> {
        let mut builder = FunctionBuilder::new();
        let rows = builder.input("x", TensorType::new(DataType::Float16, &[tokens, 4])).unwrap();
        let sum = builder.add(rows, rows).unwrap();
        builder.name_value(sum, "y").unwrap();
        let function = builder.finish(&[sum]).unwrap();
        coreml_proto::write(&function_model(function, &DescriptionOptions::default()).unwrap())
    }

    fn options() -> CombineOptions {
        CombineOptions::new("infer")
            .with_short_description("both")
            .with_metadata([("com.anemll.functions".to_owned(), "infer,prefill".to_owned())].into())
    }

    #[test]
    fn functions_keep_their_inputs_under_their_new_names() {
        let (one, many) = (doubled(1), doubled(64));
        let functions = [NamedFunction::new("infer", &one), NamedFunction::new("prefill", &many)];
        let bytes = combine(&functions, &options(), &Host::quiet()).unwrap();
        let model = coreml_proto::read_model(&bytes).unwrap();
        let interface = anemll_mil::interface(&model).unwrap();
        let shapes: Vec<(&str, &[u64])> = interface
            .iter()
            .map(|function| (function.name.as_str(), function.inputs[0].shapes[0].as_slice()))
            .collect();
        assert_eq!(shapes, [("infer", &[1, 4][..]), ("prefill", &[64, 4][..])]);
        let description = model.description.unwrap();
        assert_eq!(description.default_function_name, "infer");
        let metadata = description.metadata.unwrap();
        assert_eq!(metadata.short_description, "both");
        assert_eq!(metadata.user_defined["com.anemll.functions"], "infer,prefill");
    }

    /// As other tools write them: of several functions, or of an older specification version.
    #[test]
    fn models_of_other_tools_are_taken() {
        let (one, many) = (doubled(1), doubled(64));
        let named = |name, model| NamedFunction::new(name, model);
        let functions = [named("infer", one.as_slice()), named("prefill", &many)];
        let several = combine(&functions, &options(), &Host::quiet()).unwrap();
        let mut older = coreml_proto::read_model(&one).unwrap();
        older.specification_version = 8;
        let older = coreml_proto::write(&older);
        let functions = [named("prefill", several.as_slice()), named("infer", &older)];
        let bytes = combine(&functions, &options(), &Host::quiet()).unwrap();
        let model = coreml_proto::read_model(&bytes).unwrap();
        assert_eq!(model.specification_version, 9);
        let interface = anemll_mil::interface(&model).unwrap();
        assert_eq!(interface[0].inputs[0].shapes, [[64, 4]]);
        let functions = [named("infer", several.as_slice()), named("decode", &several)];
        let error = combine(&functions, &options(), &Host::quiet()).unwrap_err();
        assert!(error.message.contains("say which one"), "{}", error.message);
    }

    #[test]
    fn what_cannot_be_combined_is_an_error() {
        let good = doubled(1);
        let infer = NamedFunction::new("infer", &good);
        let broken = NamedFunction::new("prefill", &good[..good.len() - 1]);
        let cases: [&[NamedFunction<'_>]; 4] =
            [&[], &[infer, broken], &[infer, infer], &[NamedFunction::new("other", &good)]];
        for functions in cases {
            let error = combine(functions, &options(), &Host::quiet()).unwrap_err();
            assert_eq!(error.code, codes::GRAPH_COMBINE, "{functions:?}");
        }
        let error = combine(&[infer, broken], &options(), &Host::quiet()).unwrap_err();
        assert_eq!(error.at.as_deref(), Some("function prefill"));
    }
}
