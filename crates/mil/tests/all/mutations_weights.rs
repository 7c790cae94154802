//! The validator's checks of weights and constexpr operations, and input that means harm.

use crate::common::base::{self, Catalog, block, by_name, by_value, operation};
use anemll_mil::{
    DataType, TensorType, ValueType, literal, validate_referenced, validate_resolved,
};
use coreml_proto::{Model, mil};

/// Spoils the resolved model, and expects an error that holds `expected`.
fn refused(expected: &str, spoil: impl FnOnce(&mut Model)) {
    let mut model = base::resolved(base::TOKENS);
    validate_resolved(model.clone(), &Catalog).expect("good before it is spoilt");
    spoil(&mut model);
    let error = validate_resolved(model, &Catalog).expect_err(expected).to_string();
    assert!(error.contains(expected), "expected {expected:?} in {error:?}");
}

fn half(shape: &[u64]) -> mil::ValueType {
    ValueType::Tensor(TensorType::new(DataType::Float16, shape)).to_proto()
}

fn int32(value: i32) -> mil::Value {
    anemll_mil::Literal::int32(value).to_value().unwrap()
}

fn set_weight(model: &mut Model, kind: &TensorType, file_name: &str, offset: u64) {
    let value = literal::blob_value(kind, file_name, offset);
    let weight = block(model, "main")
        .operations
        .iter_mut()
        .find(|op| op.outputs.first().is_some_and(|output| output.name == "q_weight"))
        .unwrap();
    weight.attributes.insert("val".to_owned(), value);
}

#[test]
fn weights_in_files() {
    let kind = TensorType::new(DataType::Float16, &[64, 64, 1, 1]);
    refused("is not resolved", |model| {
        set_weight(model, &kind, r#"anemll-weight:{"tensor":"w"}"#, 0);
    });
    refused("no record at 128 of weight.bin", |model| set_weight(model, &kind, "weight.bin", 128));
    refused("no record at 64 of other.bin", |model| set_weight(model, &kind, "other.bin", 64));
    refused("is fp16, but the value is tensor<int16", |model| {
        set_weight(model, &kind.with_data_type(DataType::Int16), "weight.bin", 64);
    });
    refused("has 8192 bytes, but tensor<fp16, [64, 65, 1, 1]> takes 8320", |model| {
        set_weight(model, &TensorType::new(DataType::Float16, &[64, 65, 1, 1]), "weight.bin", 64);
    });
    refused("cannot stand in a weight file", |model| {
        set_weight(model, &TensorType::new(DataType::String, &[1]), "weight.bin", 64);
    });
    refused("cannot stand in a weight file", |model| {
        set_weight(model, &TensorType::new(DataType::Float16, &[u64::MAX, 4]), "weight.bin", 64);
    });
}

#[test]
fn weight_references() {
    let refused = |expected: &str, file_name: &str, offset: u64| {
        let mut model = base::referenced(1);
        let kind = TensorType::new(DataType::Float16, &[64, 64, 1, 1]);
        set_weight(&mut model, &kind, file_name, offset);
        let error = validate_referenced(model).expect_err(expected).to_string();
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    };
    refused("not in a reference", "weight.bin", 64);
    refused("not in a reference", "/etc/passwd", 0);
    refused("has offset 64", r#"anemll-weight:{"tensor":"w"}"#, 64);
    refused("is not JSON", "anemll-weight:{", 0);
    refused("names no tensor", "anemll-weight:{}", 0);
    refused("names no tensor", r#"anemll-weight:{"tensor":""}"#, 0);
}

/// The weight as a lookup table, which a test then spoils.
fn with_table(model: &mut Model, indices: &[u64], lut: &[u64]) {
    let value = |kind: DataType, shape: &[u64]| {
        literal::blob_value(&TensorType::new(kind, shape), "table.bin", 0)
    };
    let weight = block(model, "main")
        .operations
        .iter_mut()
        .find(|op| op.outputs.first().is_some_and(|output| output.name == "q_weight"))
        .unwrap();
    weight.r#type = "constexpr_lut_to_dense".to_owned();
    weight.attributes.remove("val");
    weight.inputs.insert("indices".to_owned(), by_value(value(DataType::UInt4, indices)));
    weight.inputs.insert("lut".to_owned(), by_value(value(DataType::Float16, lut)));
}

/// Accepts every record of `table.bin`: sizes are those of the values.
struct AnyTable;

impl anemll_mil::BlobCatalog for AnyTable {
    fn blob(&self, file_name: &str, offset: u64) -> anemll_mil::Result<anemll_mil::BlobInfo> {
        if file_name == "table.bin" {
            // Indices of 64 x 64 at 4 bits, or a table of 8 groups of 16 entries.
            let (data_type, size_in_bytes) =
                if offset == 0 { (DataType::UInt4, 2048) } else { (DataType::Float16, 256) };
            return Ok(anemll_mil::BlobInfo { data_type, size_in_bytes });
        }
        Catalog.blob(file_name, offset)
    }
}

#[test]
fn constexpr_operations() {
    let good = |model: &mut Model| {
        with_table(model, &[64, 64, 1, 1], &[8, 1, 1, 1, 16, 1]);
        let operation = operation(model, "constexpr_lut_to_dense");
        let kind = TensorType::new(DataType::Float16, &[8, 1, 1, 1, 16, 1]);
        let lut = literal::blob_value(&kind, "table.bin", 64);
        operation.inputs.insert("lut".to_owned(), by_value(lut));
    };
    let mut model = base::resolved(1);
    good(&mut model);
    validate_resolved(model.clone(), &AnyTable).unwrap();
    let refused = |expected: &str, spoil: &dyn Fn(&mut Model)| {
        let mut model = model.clone();
        spoil(&mut model);
        let error = validate_resolved(model, &AnyTable).expect_err(expected).to_string();
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    };
    refused("has 256 bytes, but", &|model| {
        let kind = TensorType::new(DataType::Float16, &[4, 1, 1, 1, 16, 1]);
        let lut = literal::blob_value(&kind, "table.bin", 64);
        operation(model, "constexpr_lut_to_dense").inputs.insert("lut".to_owned(), by_value(lut));
    });
    refused("must be a value or another constexpr, not `table`", &|model| {
        let lut = operation(model, "constexpr_lut_to_dense").inputs.remove("lut").unwrap();
        let Some(mil::argument::binding::Binding::Value(value)) =
            lut.arguments.into_iter().next().unwrap().binding
        else {
            panic!("no value")
        };
        let kind = value.r#type.clone();
        let table = mil::Operation {
            r#type: "const".to_owned(),
            outputs: vec![mil::NamedValueType { name: "table".to_owned(), r#type: kind }],
            attributes: [("val".to_owned(), value)].into(),
            ..mil::Operation::default()
        };
        block(model, "main").operations.insert(0, table);
        operation(model, "constexpr_lut_to_dense")
            .inputs
            .insert("lut".to_owned(), by_name("table"));
    });
    refused("must be a value or another constexpr, not `hidden_states`", &|model| {
        let operation = operation(model, "constexpr_lut_to_dense");
        operation.inputs.insert("lut".to_owned(), by_name("hidden_states"));
    });
    refused("is declared tensor<fp16, [64, 65, 1, 1]>", &|model| {
        let operation = operation(model, "constexpr_lut_to_dense");
        operation.outputs[0].r#type = Some(half(&[64, 65, 1, 1]));
    });
    refused("there is no attribute `shape`", &|model| {
        let operation = operation(model, "constexpr_lut_to_dense");
        operation.attributes.insert("shape".to_owned(), int32(1));
    });
}

#[test]
fn truncations_and_hostile_sizes_never_panic() {
    let bytes = coreml_proto::write(&base::combined());
    for length in (0..bytes.len()).step_by(7) {
        if let Ok(model) = coreml_proto::read_model(&bytes[..length]) {
            let _ = validate_resolved(model.clone(), &Catalog);
            let _ = anemll_mil::lint(&model, u64::MAX);
            let _ = anemll_mil::interface(&model);
        }
    }
    // Every byte of a small model changed once, in one of a few ways.
    let bytes = coreml_proto::write(&base::resolved(1));
    for place in 0..bytes.len() {
        let mut spoilt = bytes.clone();
        spoilt[place] ^= [0x01_u8, 0x80, 0xff, 0x04][place % 4];
        // The plain decoder: unknown fields are dropped, the rest must hold.
        if let Ok(model) = <Model as coreml_proto::prost::Message>::decode(spoilt.as_slice()) {
            let _ = anemll_mil::lint(&model, 0);
            let _ = anemll_mil::interface(&model);
            let _ = validate_resolved(model, &Catalog);
        }
    }
}
