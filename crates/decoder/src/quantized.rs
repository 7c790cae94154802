//! Checkpoints whose weights are quantized, and configurations that only say so.

use std::collections::{BTreeMap, BTreeSet};

use anemll_plugin_api::data::TensorInfo;
use anemll_plugin_api::{Error, Result, codes};

use crate::config::{Config, Key};
use crate::error::key_unsupported;

/// The keys by which configurations say it.
const KEYS: [&str; 3] = ["quantization_config", "compression_config", "quantization"];

/// Rules for these keys: what they say is compared with the weights.
pub(crate) const QUANTIZATION_KEYS: &[Key] =
    &[Key::used(KEYS[0]), Key::used(KEYS[1]), Key::used(KEYS[2])];

/// What tensors of quantized weights are called beside, or instead of, a module's `.weight`.
const SIGNS: [&str; 16] = [
    ".qweight",
    ".qzeros",
    ".scales",
    ".g_idx",
    ".weight_scale",
    ".weight_scale_inv",
    ".weight_scale_2",
    ".weight_packed",
    ".weight_quantized",
    ".weight.absmax",
    ".weight.quant_map",
    ".SCB",
    ".W_q",
    ".codes",
    ".codebooks",
    ".weight._data",
];

/// What a configuration says of quantization.
struct Claim<'a> {
    key: &'static str,
    /// `gptq`, `awq`, and so on; `quantized` where it does not say how.
    method: &'a str,
    bits: Option<u64>,
    /// Whether it says itself that nothing is quantized.
    denied: bool,
}

impl<'a> Claim<'a> {
    fn read(config: &Config<'a>) -> Result<Option<Self>> {
        for key in KEYS {
            let Some(section) = config.section(key)? else { continue };
            if section.entries().next().is_none() {
                continue;
            }
            let text = |key| section.get(key).and_then(|value| value.as_str());
            let is = |key| section.get(key).and_then(|value| value.as_bool());
            let loaded = [(4, is("load_in_4bit")), (8, is("load_in_8bit"))];
            let bits = section
                .get("bits")
                .and_then(|value| value.as_u64())
                .or_else(|| loaded.iter().find(|(_, is)| *is == Some(true)).map(|(bits, _)| *bits));
            let usual = if key == "quantization" { "mlx" } else { "quantized" };
            let method = text("quant_method").or_else(|| text("format")).unwrap_or(usual);
            let denied = method == "bitsandbytes"
                && loaded.iter().all(|(_, is)| *is != Some(true))
                && loaded.iter().any(|(_, is)| is.is_some());
            return Ok(Some(Self { key, method, bits, denied }));
        }
        Ok(None)
    }

    /// `gptq, 4 bits`.
    fn describe(&self) -> String {
        match self.bits {
            Some(bits) => format!("{}, {bits} bits", self.method),
            None => self.method.to_owned(),
        }
    }
}

/// Compares what the configuration says with the weights that the model reads, `wanted` by name.
/// Gives a remark where the configuration says that they are quantized, and they are not.
///
/// Where no tensors are known, the configuration is believed, but for that of `bitsandbytes`, which
/// is often left in a model that was merged in 16 bits. `believe` is whether to do so.
///
/// # Errors
/// Quantized weights, with the method, the tensor that shows it, and what to do.
pub(crate) fn check_quantization(
    config: &Config<'_>,
    tensors: &BTreeMap<String, TensorInfo>,
    wanted: &BTreeSet<String>,
    believe: bool,
) -> Result<Option<String>> {
    let claim = Claim::read(config)?;
    if let Some(sign) = sign(tensors, wanted) {
        let method = claim.as_ref().map_or("", |claim| claim.method);
        let how = claim.as_ref().map_or(String::new(), |claim| format!(" ({})", claim.describe()));
        return Err(Error::new(
            codes::WEIGHTS_QUANTIZED,
            format!("the weights are quantized{how}: there is `{sign}`"),
        )
        .with_at(sign)
        .with_hint(remedy(method)));
    }
    let Some(claim) = claim else { return Ok(None) };
    if !tensors.is_empty() {
        return Ok(Some(format!(
            "config.json: `{}` ({}) is left over: the weights are plain floats",
            claim.key,
            claim.describe()
        )));
    }
    if claim.denied || !believe {
        return Ok(None);
    }
    if claim.method == "bitsandbytes" {
        return Ok(Some(format!(
            "config.json: `{}` ({}) may be left over; if the weights are quantized, they will be \
             refused",
            claim.key,
            claim.describe()
        )));
    }
    Err(key_unsupported(
        claim.key,
        format!("says that the weights are quantized ({})", claim.describe()),
    )
    .with_hint(format!(
        "{}; if the weights are plain floats all the same, give their directory",
        remedy(claim.method)
    )))
}

/// A tensor that only quantized weights have, in a module that the model reads.
fn sign<'a>(
    tensors: &'a BTreeMap<String, TensorInfo>,
    wanted: &BTreeSet<String>,
) -> Option<&'a str> {
    let modules: BTreeSet<&str> =
        wanted.iter().filter_map(|name| name.strip_suffix(".weight")).collect();
    tensors.iter().find_map(|(name, info)| {
        let packed = wanted.contains(name) && is_packed(info.dtype.name());
        let sign = SIGNS
            .iter()
            .any(|sign| name.strip_suffix(sign).is_some_and(|module| modules.contains(module)));
        (packed || sign).then_some(name.as_str())
    })
}

/// Whether a weight of this element type can only be a quantized one.
fn is_packed(dtype: &str) -> bool {
    dtype.starts_with("int") || dtype.starts_with("uint") || {
        let narrow = ["f4", "f6", "f8", "float4", "float6", "float8"];
        narrow.iter().any(|start| dtype.starts_with(start))
    }
}

fn remedy(method: &str) -> &'static str {
    match method {
        "bitsandbytes" => {
            "in Python, load the model and save it whole: \
             model.dequantize().save_pretrained(DIR); or take the original model"
        }
        "mlx" => {
            "take the original model, or make it whole: \
             mlx_lm.convert --dequantize --hf-path DIR --mlx-path OTHER_DIR"
        }
        _ => "take the original model, in float16, bfloat16 or float32; --lut makes it small",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anemll_plugin_api::DType;
    use serde_json::{Value, json};

    const QUERY: &str = "model.layers.0.self_attn.q_proj.weight";

    fn check(config: &Value, tensors: &[(&str, &str)], believe: bool) -> Result<Option<String>> {
        let tensors = tensors
            .iter()
            .map(|(name, dtype)| ((*name).to_owned(), TensorInfo::new(DType::named(dtype), [1])))
            .collect();
        let wanted = BTreeSet::from([QUERY.to_owned()]);
        check_quantization(&Config::new(config).unwrap(), &tensors, &wanted, believe)
    }

    #[test]
    fn quantized_weights_are_refused_by_method() {
        let stem = QUERY.strip_suffix(".weight").unwrap();
        for (config, sign, dtype, words) in [
            (
                json!({"quantization_config": {"quant_method": "gptq", "bits": 4}}),
                ".qweight",
                "int32",
                "(gptq, 4 bits)",
            ),
            (
                json!({"quantization_config": {"quant_method": "awq", "bits": 4}}),
                ".scales",
                "float16",
                "(awq, 4 bits)",
            ),
            (
                json!({"quantization_config": {"quant_method": "fp8"}}),
                ".weight",
                "f8_e4m3",
                "(fp8)",
            ),
            (
                json!({"quantization_config": {"quant_method": "fp8"}}),
                ".weight_scale_inv",
                "float32",
                "(fp8)",
            ),
            (
                json!({"compression_config": {"format": "pack-quantized"}}),
                ".weight_packed",
                "int32",
                "(pack-quantized)",
            ),
            (
                json!({"quantization": {"bits": 4, "group_size": 64}}),
                ".scales",
                "float16",
                "(mlx, 4 bits)",
            ),
            (
                json!({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": true}}),
                ".weight",
                "uint8",
                "(bitsandbytes, 4 bits)",
            ),
            (json!({}), ".weight", "int8", "quantized: there is"),
            (json!({}), ".SCB", "float32", "quantized: there is"),
        ] {
            let name = format!("{stem}{sign}");
            let error = check(&config, &[(&name, dtype)], true).unwrap_err();
            assert_eq!(
                (error.code.as_str(), error.at.as_deref()),
                (codes::WEIGHTS_QUANTIZED, Some(name.as_str()))
            );
            assert!(error.message.contains(words), "{}", error.message);
            assert!(error.hint.is_some());
        }
    }

    #[test]
    fn what_is_left_over_is_remarked_on() {
        let plain = [(QUERY, "bfloat16"), ("vision.patch.qweight", "int32"), ("x.scales", "int8")];
        for config in [
            json!({"quantization_config": {"quant_method": "gptq", "bits": 4}}),
            json!({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": true}}),
            json!({"quantization": {"bits": 4}}),
        ] {
            let note = check(&config, &plain, true).unwrap().unwrap();
            assert!(note.ends_with("is left over: the weights are plain floats"), "{note}");
        }
        assert_eq!(check(&json!({}), &plain, true).unwrap(), None);
        assert_eq!(check(&json!({"quantization_config": {}}), &plain, true).unwrap(), None);
    }

    #[test]
    fn without_weights_the_configuration_is_believed() {
        let gptq = json!({"quantization_config": {"quant_method": "gptq"}});
        let error = check(&gptq, &[], true).unwrap_err();
        assert_eq!(error.code, codes::CONFIG_KEY_UNSUPPORTED);
        assert_eq!(error.at.unwrap(), "config.json: quantization_config");
        assert_eq!(check(&gptq, &[], false).unwrap(), None);
        let bits = |is| json!({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": is}});
        assert!(check(&bits(true), &[], true).unwrap().unwrap().contains("may be left over"));
        assert_eq!(check(&bits(false), &[], true).unwrap(), None);
    }
}
