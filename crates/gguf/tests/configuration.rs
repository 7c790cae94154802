//! What the metadata says of the arithmetic goes into config.json, or is refused by name.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_gguf::{Container, Error, config};
use serde_json::{Value, json};

/// Bytes of values and tensors of a header.
#[derive(Default, Clone)]
struct File {
    keys: Vec<Vec<u8>>,
    /// Name and length of lists of float32 ones.
    lists: Vec<(&'static str, u64)>,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl File {
    fn key(mut self, name: &str, kind: u32, value: &[u8]) -> Self {
        self.keys.push([&text(name), &kind.to_le_bytes()[..], value].concat());
        self
    }

    fn size(self, name: &str, value: u32) -> Self {
        self.key(name, 4, &value.to_le_bytes())
    }

    fn number(self, name: &str, value: f32) -> Self {
        self.key(name, 6, &value.to_le_bytes())
    }

    fn list(mut self, name: &'static str, length: u64) -> Self {
        self.lists.push((name, length));
        self
    }

    /// Values of one type.
    fn values(self, name: &str, kind: u32, count: u64, values: &[u8]) -> Self {
        let list = [&kind.to_le_bytes()[..], &count.to_le_bytes(), values].concat();
        self.key(name, 9, &list)
    }

    fn config(&self) -> Result<Value, Error> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend((self.lists.len() as u64).to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        bytes.extend(self.keys.concat());
        let mut data = Vec::new();
        for (name, length) in &self.lists {
            bytes.extend(text(name));
            // An embedding is a matrix.
            let shape = if *name == "token_embd.weight" { vec![*length, 1] } else { vec![*length] };
            bytes.extend((shape.len() as u32).to_le_bytes());
            shape.iter().for_each(|side| bytes.extend(side.to_le_bytes()));
            bytes.extend(0_u32.to_le_bytes());
            bytes.extend((data.len() as u64).to_le_bytes());
            (0..*length).for_each(|_| data.extend(1_f32.to_le_bytes()));
            data.resize(data.len().next_multiple_of(32), 0);
        }
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(data);
        let container = Container::read(&bytes[..], bytes.len() as u64)?;
        config(&container, &bytes[..])
    }
}

/// A model with all that must be there.
fn model(architecture: &str) -> File {
    let key = |name: &str| format!("{architecture}.{name}");
    File::default()
        .key("general.architecture", 8, &text(architecture))
        .size(&key("embedding_length"), 8)
        .size(&key("feed_forward_length"), 16)
        .size(&key("block_count"), 2)
        .size(&key("attention.head_count"), 2)
        .size(&key("context_length"), 4096)
        .number(&key("attention.layer_norm_rms_epsilon"), 1e-5)
        .list("token_embd.weight", 8)
}

#[test]
fn a_factor_without_a_type_is_linear() {
    let scaling = |file: File| file.config().unwrap()["rope_scaling"].clone();
    assert_eq!(scaling(model("llama")), Value::Null);
    let factor = |value| model("llama").number("llama.rope.scaling.factor", value);
    let linear = json!({ "rope_type": "linear", "factor": 4.0 });
    assert_eq!(scaling(factor(4.0)), linear);
    assert_eq!(scaling(model("llama").number("llama.rope.scale_linear", 4.0)), linear);
    assert_eq!((scaling(factor(1.0)), scaling(factor(0.0))), (Value::Null, Value::Null));
    let none = factor(4.0).key("llama.rope.scaling.type", 8, &text("none"));
    assert_eq!(scaling(none), Value::Null);
}

#[test]
fn no_part_of_a_scaling_is_left_out() {
    let long = || {
        let file = model("phi3").list("rope_factors_long.weight", 2);
        file.size("phi3.rope.scaling.original_context_length", 2048)
    };
    let both = || long().list("rope_factors_short.weight", 2);
    let attention = |file: File, value| file.number("phi3.rope.scaling.attn_factor", value);
    assert_eq!(both().config().unwrap()["rope_scaling"]["type"], "longrope");
    // The square root of 1 + ln 2 / ln 2048.
    let usual = attention(both(), 1.044_466);
    assert_eq!(usual.config().unwrap()["rope_scaling"]["type"], "longrope");
    for (file, key) in [
        (long(), "rope_factors_short.weight"),
        (attention(both(), 1.2), "phi3.rope.scaling.attn_factor"),
        (attention(model("phi3"), 1.2), "phi3.rope.scaling.attn_factor"),
        (
            model("llama").number("llama.rope.scaling.factor", 4.0).list("rope_freqs.weight", 2),
            "rope_freqs.weight",
        ),
    ] {
        assert_eq!(file.config().unwrap_err().key.as_deref(), Some(key));
    }
}

#[test]
fn layers_with_windows_are_told_by_any_kind_of_list() {
    const PATTERN: &str = "gemma3.attention.sliding_window_pattern";
    let expected = json!(["sliding_attention", "full_attention"]);
    let numbers = [1_u32.to_le_bytes(), 0_u32.to_le_bytes()].concat();
    for file in [
        model("gemma3").values(PATTERN, 7, 2, &[1, 0]),
        model("gemma3").values(PATTERN, 4, 2, &numbers),
    ] {
        assert_eq!(file.config().unwrap()["layer_types"], expected);
    }
    let every = model("gemma3").size(PATTERN, 6);
    assert_eq!(every.config().unwrap()["sliding_window_pattern"], 6);
    for file in [
        model("gemma3").key(PATTERN, 5, &(-6_i32).to_le_bytes()),
        model("gemma3").values(PATTERN, 8, 1, &text("local")),
    ] {
        assert_eq!(file.config().unwrap_err().key.as_deref(), Some(PATTERN));
    }
}

#[test]
fn values_that_cannot_be_are_refused_by_key_with_what_they_are() {
    const WINDOW: &str = "gemma3.attention.sliding_window";
    const CAP: &str = "gemma3.final_logit_softcapping";
    const HEADS: &str = "gemma3.attention.head_count";
    let minus_one = (-1_i32).to_le_bytes();
    for (file, key, words) in [
        (model("gemma3").key(WINDOW, 8, &text("wide")), WINDOW, "is a text, not a finite number"),
        (model("gemma3").values(WINDOW, 4, 1, &[1, 0, 0, 0]), WINDOW, "is a list of 1 value"),
        (model("gemma3").number(CAP, f32::NAN), CAP, "is NaN"),
        (model("gemma3").number(CAP, f32::INFINITY), CAP, "is inf"),
        (model("llama").number("llama.rope.freq_base", f32::NAN), "llama.rope.freq_base", "is NaN"),
        (
            model("llama").key("llama.rope.dimension_count", 10, &(1_u64 << 63).to_le_bytes()),
            "llama.rope.dimension_count",
            "is 9223372036854775808, not a whole number of up to 2147483647",
        ),
        (
            model("llama").key("llama.attention.key_length", 5, &minus_one),
            "llama.attention.key_length",
            "is -1, not a whole number",
        ),
    ] {
        let error = file.config().unwrap_err();
        assert_eq!(error.key.as_deref(), Some(key));
        assert!(error.reason.contains(words), "{words}: {error}");
    }
    let mut none = model("gemma3");
    none.keys.retain(|key| !key.windows(HEADS.len()).any(|part| part == HEADS.as_bytes()));
    let zero = none.clone().size(HEADS, 0).config().unwrap_err();
    assert!(zero.key.as_deref() == Some(HEADS) && zero.reason.contains("is 0"), "{zero}");
    let missing = none.config().unwrap_err();
    assert!(
        missing.key.as_deref() == Some(HEADS) && missing.reason.contains("missing"),
        "{missing}"
    );
}
