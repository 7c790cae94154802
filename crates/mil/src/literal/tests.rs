use super::storage::e4m3;
use super::*;

fn round_trip(kind: DataType, values: &[i64]) {
    let literal =
        Literal::tensor(kind, &[values.len() as u64], Elements::Integers(values.to_vec()));
    let value = literal.to_value().unwrap();
    assert_eq!(Literal::from_value(&value).unwrap(), literal, "{kind}");
    let (tensor, bytes) = tensor_bytes(&value).unwrap();
    assert_eq!(Some(bytes.len() as u64), tensor.byte_size(), "{kind}");
    let again = value_from_bytes(&tensor, bytes.into_owned()).unwrap();
    assert_eq!(Literal::from_value(&again).unwrap(), literal, "{kind}");
}

#[test]
fn every_integer_type_survives() {
    for kind in DataType::ALL.iter().filter(|kind| kind.is_integer()) {
        let (low, high) = kind.integer_range().unwrap();
        round_trip(*kind, &[low, high, 0, 1, high / 2, low, high]);
    }
}

#[test]
fn sub_byte_types_are_packed_low_bits_first() {
    let value = Literal::tensor(DataType::UInt6, &[4], Elements::Integers(vec![1, 2, 3, 63]))
        .to_value()
        .unwrap();
    let (_, bytes) = tensor_bytes(&value).unwrap();
    assert_eq!(bytes.as_ref(), [0b1000_0001, 0b0011_0000, 0b1111_1100]);
    let value = Literal::tensor(DataType::Int4, &[2], Elements::Integers(vec![-1, 2])).to_value();
    assert_eq!(tensor_bytes(&value.unwrap()).unwrap().1.as_ref(), [0x2f]);
}

#[test]
fn half_precision_is_bytes() {
    let value = Literal::float16(f16::from_f32(1.0)).to_value().unwrap();
    let (kind, bytes) = tensor_bytes(&value).unwrap();
    assert_eq!((kind.to_string().as_str(), bytes.as_ref()), ("tensor<fp16, []>", &[0, 60][..]));
    assert_eq!(Literal::from_value(&value).unwrap().floats(), Some(&[1.0][..]));
}

#[test]
fn the_small_floating_formats_decode() {
    assert_eq!(e4m3(0x38), 1.0);
    assert_eq!(e4m3(0xfe), -448.0);
    assert_eq!(e4m3(0x01), 2_f64.powi(-9));
    assert!(e4m3(0x7f).is_nan());
    assert_eq!(unpack(DataType::Float8E5M2, &[0x3c], 1), Elements::Floats(vec![1.0]));
}

#[test]
fn wrong_sizes_fields_and_ranges_are_refused() {
    let mut value = Literal::int32s(&[1, 2, 3]).to_value().unwrap();
    value.r#type = Some(ValueType::from(TensorType::new(DataType::Int32, &[4])).to_proto());
    assert_eq!(
        check_value(&value),
        Err("tensor<int32, [4]> takes 4 elements but holds 3".to_owned())
    );
    value.r#type = Some(ValueType::from(TensorType::new(DataType::Float32, &[3])).to_proto());
    assert!(check_value(&value).unwrap_err().contains("stored as Ints"));
    let huge = TensorType::new(DataType::Int32, &[u64::MAX, u64::MAX]);
    value.r#type = Some(ValueType::from(huge).to_proto());
    assert!(check_value(&value).is_err());
    assert!(Literal::from_value(&value).is_err());
    value.value = None;
    assert!(check_value(&value).is_err());
    let wide = Literal::tensor(DataType::Int16, &[1], Elements::Integers(vec![40_000]));
    assert_eq!(wide.to_value(), Err("40000 does not fit int16".to_owned()));
}

#[test]
fn blob_values_are_no_literals() {
    let value = blob_value(&TensorType::new(DataType::Float16, &[2]), "weight.bin", 64);
    assert!(check_value(&value).is_ok());
    assert!(Literal::from_value(&value).unwrap_err().contains("weight.bin"));
}
