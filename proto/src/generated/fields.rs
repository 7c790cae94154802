[
    Message { name: "coreml.mil.Program", fields: &[
        field(1, "version", Shape::One, None),
        field(2, "functions", Shape::Map, Some(1)),
        field(3, "docString", Shape::One, None),
        field(4, "attributes", Shape::Map, Some(2)),
    ] },
    Message { name: "coreml.mil.Program.FunctionsEntry", fields: &[
        field(1, "key", Shape::One, None),
        field(2, "value", Shape::One, Some(3)),
    ] },
    Message { name: "coreml.mil.Program.AttributesEntry", fields: &[
        field(1, "key", Shape::One, None),
        field(2, "value", Shape::One, Some(24)),
    ] },
    Message { name: "coreml.mil.Function", fields: &[
        field(1, "inputs", Shape::List, Some(13)),
        field(2, "opset", Shape::One, None),
        field(3, "block_specializations", Shape::Map, Some(4)),
        field(4, "attributes", Shape::Map, Some(5)),
    ] },
    Message { name: "coreml.mil.Function.BlockSpecializationsEntry", fields: &[
        field(1, "key", Shape::One, None),
        field(2, "value", Shape::One, Some(6)),
    ] },
    Message { name: "coreml.mil.Function.AttributesEntry", fields: &[
        field(1, "key", Shape::One, None),
        field(2, "value", Shape::One, Some(24)),
    ] },
    Message { name: "coreml.mil.Block", fields: &[
        field(1, "inputs", Shape::List, Some(13)),
        field(2, "outputs", Shape::List, None),
        field(3, "operations", Shape::List, Some(8)),
        field(4, "attributes", Shape::Map, Some(7)),
    ] },
    Message { name: "coreml.mil.Block.AttributesEntry", fields: &[
        field(1, "key", Shape::One, None),
        field(2, "value", Shape::One, Some(24)),
    ] },
    Message { name: "coreml.mil.Operation", fields: &[
        field(1, "type", Shape::One, None),
        field(2, "inputs", Shape::Map, Some(9)),
        field(3, "outputs", Shape::List, Some(13)),
        field(4, "blocks", Shape::List, Some(6)),
        field(5, "attributes", Shape::Map, Some(10)),
    ] },
    Message { name: "coreml.mil.Operation.InputsEntry", fields: &[
        field(1, "key", Shape::One, None),
        field(2, "value", Shape::One, Some(11)),
    ] },
    Message { name: "coreml.mil.Operation.AttributesEntry", fields: &[
        field(1, "key", Shape::One, None),
        field(2, "value", Shape::One, Some(24)),
    ] },
    Message { name: "coreml.mil.Argument", fields: &[
        field(1, "arguments", Shape::List, Some(12)),
    ] },
    Message { name: "coreml.mil.Argument.Binding", fields: &[
        field(1, "name", Shape::One, None),
        field(2, "value", Shape::One, Some(24)),
    ] },
    Message { name: "coreml.mil.NamedValueType", fields: &[
        field(1, "name", Shape::One, None),
        field(2, "type", Shape::One, Some(14)),
    ] },
    Message { name: "coreml.mil.ValueType", fields: &[
        field(1, "tensorType", Shape::One, Some(15)),
        field(2, "listType", Shape::One, Some(18)),
        field(3, "tupleType", Shape::One, Some(17)),
        field(4, "dictionaryType", Shape::One, Some(19)),
        field(5, "stateType", Shape::One, Some(20)),
    ] },
    Message { name: "coreml.mil.TensorType", fields: &[
        field(1, "dataType", Shape::One, None),
        field(2, "rank", Shape::One, None),
        field(3, "dimensions", Shape::List, Some(21)),
        field(4, "attributes", Shape::Map, Some(16)),
    ] },
    Message { name: "coreml.mil.TensorType.AttributesEntry", fields: &[
        field(1, "key", Shape::One, None),
        field(2, "value", Shape::One, Some(24)),
    ] },
    Message { name: "coreml.mil.TupleType", fields: &[
        field(1, "types", Shape::List, Some(14)),
    ] },
    Message { name: "coreml.mil.ListType", fields: &[
        field(1, "type", Shape::One, Some(14)),
        field(2, "length", Shape::One, Some(21)),
    ] },
    Message { name: "coreml.mil.DictionaryType", fields: &[
        field(1, "keyType", Shape::One, Some(14)),
        field(2, "valueType", Shape::One, Some(14)),
    ] },
    Message { name: "coreml.mil.StateType", fields: &[
        field(1, "wrappedType", Shape::One, Some(14)),
    ] },
    Message { name: "coreml.mil.Dimension", fields: &[
        field(1, "constant", Shape::One, Some(22)),
        field(2, "unknown", Shape::One, Some(23)),
    ] },
    Message { name: "coreml.mil.Dimension.ConstantDimension", fields: &[
        field(1, "size", Shape::One, None),
    ] },
    Message { name: "coreml.mil.Dimension.UnknownDimension", fields: &[
        field(1, "variadic", Shape::One, None),
    ] },
    Message { name: "coreml.mil.Value", fields: &[
        field(1, "docString", Shape::One, None),
        field(2, "type", Shape::One, Some(14)),
        field(3, "immediateValue", Shape::One, Some(25)),
        field(5, "blobFileValue", Shape::One, Some(26)),
    ] },
    Message { name: "coreml.mil.Value.ImmediateValue", fields: &[
        field(1, "tensor", Shape::One, Some(27)),
        field(2, "tuple", Shape::One, Some(35)),
        field(3, "list", Shape::One, Some(36)),
        field(4, "dictionary", Shape::One, Some(37)),
    ] },
    Message { name: "coreml.mil.Value.BlobFileValue", fields: &[
        field(1, "fileName", Shape::One, None),
        field(2, "offset", Shape::One, None),
    ] },
    Message { name: "coreml.mil.TensorValue", fields: &[
        field(1, "floats", Shape::One, Some(28)),
        field(2, "ints", Shape::One, Some(30)),
        field(3, "bools", Shape::One, Some(32)),
        field(4, "strings", Shape::One, Some(33)),
        field(5, "longInts", Shape::One, Some(31)),
        field(6, "doubles", Shape::One, Some(29)),
        field(7, "bytes", Shape::One, Some(34)),
    ] },
    Message { name: "coreml.mil.TensorValue.RepeatedFloats", fields: &[
        field(1, "values", Shape::List, None),
    ] },
    Message { name: "coreml.mil.TensorValue.RepeatedDoubles", fields: &[
        field(1, "values", Shape::List, None),
    ] },
    Message { name: "coreml.mil.TensorValue.RepeatedInts", fields: &[
        field(1, "values", Shape::List, None),
    ] },
    Message { name: "coreml.mil.TensorValue.RepeatedLongInts", fields: &[
        field(1, "values", Shape::List, None),
    ] },
    Message { name: "coreml.mil.TensorValue.RepeatedBools", fields: &[
        field(1, "values", Shape::List, None),
    ] },
    Message { name: "coreml.mil.TensorValue.RepeatedStrings", fields: &[
        field(1, "values", Shape::List, None),
    ] },
    Message { name: "coreml.mil.TensorValue.RepeatedBytes", fields: &[
        field(1, "values", Shape::One, None),
    ] },
    Message { name: "coreml.mil.TupleValue", fields: &[
        field(1, "values", Shape::List, Some(24)),
    ] },
    Message { name: "coreml.mil.ListValue", fields: &[
        field(1, "values", Shape::List, Some(24)),
    ] },
    Message { name: "coreml.mil.DictionaryValue", fields: &[
        field(1, "values", Shape::List, Some(38)),
    ] },
    Message { name: "coreml.mil.DictionaryValue.KeyValuePair", fields: &[
        field(1, "key", Shape::One, Some(24)),
        field(2, "value", Shape::One, Some(24)),
    ] },
    Message { name: "coreml.Model", fields: &[
        field(1, "specificationVersion", Shape::One, None),
        field(2, "description", Shape::One, Some(40)),
        field(10, "isUpdatable", Shape::One, None),
        field(502, "mlProgram", Shape::One, Some(0)),
    ] },
    Message { name: "coreml.ModelDescription", fields: &[
        field(1, "input", Shape::List, Some(44)),
        field(10, "output", Shape::List, Some(44)),
        field(11, "predictedFeatureName", Shape::One, None),
        field(12, "predictedProbabilitiesName", Shape::One, None),
        field(13, "state", Shape::List, Some(44)),
        field(20, "functions", Shape::List, Some(41)),
        field(21, "defaultFunctionName", Shape::One, None),
        field(50, "trainingInput", Shape::List, Some(44)),
        field(100, "metadata", Shape::One, Some(42)),
    ] },
    Message { name: "coreml.FunctionDescription", fields: &[
        field(1, "name", Shape::One, None),
        field(2, "input", Shape::List, Some(44)),
        field(3, "output", Shape::List, Some(44)),
        field(4, "predictedFeatureName", Shape::One, None),
        field(5, "predictedProbabilitiesName", Shape::One, None),
        field(6, "state", Shape::List, Some(44)),
    ] },
    Message { name: "coreml.Metadata", fields: &[
        field(1, "shortDescription", Shape::One, None),
        field(2, "versionString", Shape::One, None),
        field(3, "author", Shape::One, None),
        field(4, "license", Shape::One, None),
        field(100, "userDefined", Shape::Map, Some(43)),
    ] },
    Message { name: "coreml.Metadata.UserDefinedEntry", fields: &[
        field(1, "key", Shape::One, None),
        field(2, "value", Shape::One, None),
    ] },
    Message { name: "coreml.FeatureDescription", fields: &[
        field(1, "name", Shape::One, None),
        field(2, "shortDescription", Shape::One, None),
        field(3, "type", Shape::One, Some(45)),
    ] },
    Message { name: "coreml.FeatureType", fields: &[
        field(1, "int64Type", Shape::One, Some(46)),
        field(2, "doubleType", Shape::One, Some(47)),
        field(3, "stringType", Shape::One, Some(48)),
        field(4, "imageType", Shape::One, Some(50)),
        field(5, "multiArrayType", Shape::One, Some(54)),
        field(6, "dictionaryType", Shape::One, Some(58)),
        field(7, "sequenceType", Shape::One, Some(59)),
        field(8, "stateType", Shape::One, Some(60)),
        field(1000, "isOptional", Shape::One, None),
    ] },
    Message { name: "coreml.Int64FeatureType", fields: &[
    ] },
    Message { name: "coreml.DoubleFeatureType", fields: &[
    ] },
    Message { name: "coreml.StringFeatureType", fields: &[
    ] },
    Message { name: "coreml.SizeRange", fields: &[
        field(1, "lowerBound", Shape::One, None),
        field(2, "upperBound", Shape::One, None),
    ] },
    Message { name: "coreml.ImageFeatureType", fields: &[
        field(1, "width", Shape::One, None),
        field(2, "height", Shape::One, None),
        field(3, "colorSpace", Shape::One, None),
        field(21, "enumeratedSizes", Shape::One, Some(52)),
        field(31, "imageSizeRange", Shape::One, Some(53)),
    ] },
    Message { name: "coreml.ImageFeatureType.ImageSize", fields: &[
        field(1, "width", Shape::One, None),
        field(2, "height", Shape::One, None),
    ] },
    Message { name: "coreml.ImageFeatureType.EnumeratedImageSizes", fields: &[
        field(1, "sizes", Shape::List, Some(51)),
    ] },
    Message { name: "coreml.ImageFeatureType.ImageSizeRange", fields: &[
        field(1, "widthRange", Shape::One, Some(49)),
        field(2, "heightRange", Shape::One, Some(49)),
    ] },
    Message { name: "coreml.ArrayFeatureType", fields: &[
        field(1, "shape", Shape::List, None),
        field(2, "dataType", Shape::One, None),
        field(21, "enumeratedShapes", Shape::One, Some(56)),
        field(31, "shapeRange", Shape::One, Some(57)),
        field(41, "intDefaultValue", Shape::One, None),
        field(51, "floatDefaultValue", Shape::One, None),
        field(61, "doubleDefaultValue", Shape::One, None),
    ] },
    Message { name: "coreml.ArrayFeatureType.Shape", fields: &[
        field(1, "shape", Shape::List, None),
    ] },
    Message { name: "coreml.ArrayFeatureType.EnumeratedShapes", fields: &[
        field(1, "shapes", Shape::List, Some(55)),
    ] },
    Message { name: "coreml.ArrayFeatureType.ShapeRange", fields: &[
        field(1, "sizeRanges", Shape::List, Some(49)),
    ] },
    Message { name: "coreml.DictionaryFeatureType", fields: &[
        field(1, "int64KeyType", Shape::One, Some(46)),
        field(2, "stringKeyType", Shape::One, Some(48)),
    ] },
    Message { name: "coreml.SequenceFeatureType", fields: &[
        field(1, "int64Type", Shape::One, Some(46)),
        field(3, "stringType", Shape::One, Some(48)),
        field(101, "sizeRange", Shape::One, Some(49)),
    ] },
    Message { name: "coreml.StateFeatureType", fields: &[
        field(1, "arrayType", Shape::One, Some(54)),
    ] },
]
