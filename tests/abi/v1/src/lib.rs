//! A plugin of all five stages that knows nothing but the frozen types: no adapter, no struct of
//! `anemll-plugin-api`. It reads and writes the JSON and the bytes that cross by itself, as plugins
//! that were built long ago do.
//!
//! Its quantizer stores matrices as indices of 8 bits into one table; the others answer that they
//! are there, or that they cannot do it.

use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{RBox, ROption, RResult, RSlice, RStr, RString, RVec};
use serde_json::{Value, json};

#[allow(
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_local_definitions,
    unreachable_pub,
    clippy::all
)]
mod v1;

use v1::*;

const MANIFEST: &str = r#"{
    "name": "frozen", "version": "1.0.0", "abi": 1, "license": "MIT OR Apache-2.0",
    "components": [
        {"stage": "arch", "id": "frozen", "model_types": ["frozen"], "summary": "no models at all"},
        {"stage": "quantizer", "id": "frozen", "summary": "one table of 256 values for a matrix"},
        {"stage": "combiner", "id": "frozen", "summary": "no packages at all"},
        {"stage": "compiler", "id": "frozen", "summary": "no compiled models at all"},
        {"stage": "runtime", "id": "frozen", "summary": "runs nothing"}
    ]
}"#;

/// The header, and the JSON behind it.
const fn symbol<const LENGTH: usize>() -> [u8; LENGTH] {
    let (magic, json) = (*b"ANEMLLPM", MANIFEST.as_bytes());
    let (length, epoch) = ((json.len() as u32).to_le_bytes(), EPOCH.to_le_bytes());
    let mut bytes = [0; LENGTH];
    let mut at = 0;
    while at < LENGTH {
        bytes[at] = match at {
            0..8 => magic[at],
            8..12 => length[at - 8],
            12..16 => epoch[at - 12],
            _ => json[at - 16],
        };
        at += 1;
    }
    bytes
}

#[used]
#[unsafe(export_name = "ANEMLL_PLUGIN_MANIFEST")]
static SYMBOL: [u8; 16 + MANIFEST.len()] = symbol();

#[abi_stable::export_root_module]
fn module() -> PluginModule_Ref {
    PluginModule { manifest, new_arch, new_quantizer, new_combiner, new_compiler, new_runtime }
        .leak_into_prefix()
}

extern "C" fn manifest() -> RStr<'static> {
    RStr::from_str(MANIFEST)
}

/// All components: none has a state.
struct Frozen;

fn made<R>(id: RStr<'_>, make: impl FnOnce(RBox<Frozen>) -> R) -> Abi<R> {
    match id.as_str() {
        "frozen" => RResult::ROk(make(RBox::new(Frozen))),
        other => refuse("A0114", &format!("the plugin has no component `{other}`")),
    }
}

extern "C" fn new_arch(id: RStr<'_>, _: RStr<'_>) -> Abi<ArchFrontendBox> {
    made(id, |it| AbiArchFrontend_TO::from_ptr(it, TD_Opaque))
}

extern "C" fn new_quantizer(id: RStr<'_>, _: RStr<'_>) -> Abi<QuantizerBox> {
    made(id, |it| AbiQuantizer_TO::from_ptr(it, TD_Opaque))
}

extern "C" fn new_combiner(id: RStr<'_>, _: RStr<'_>) -> Abi<CombinerBox> {
    made(id, |it| AbiCombiner_TO::from_ptr(it, TD_Opaque))
}

extern "C" fn new_compiler(id: RStr<'_>, _: RStr<'_>) -> Abi<CompilerBox> {
    made(id, |it| AbiCompiler_TO::from_ptr(it, TD_Opaque))
}

extern "C" fn new_runtime(id: RStr<'_>, _: RStr<'_>) -> Abi<RuntimeBox> {
    made(id, |it| AbiRuntime_TO::from_ptr(it, TD_Opaque))
}

fn error(code: &str, message: &str) -> PluginError {
    PluginError {
        code: code.into(),
        message: message.into(),
        hint: ROption::RNone,
        at: ROption::RNone,
        causes: RVec::new(),
    }
}

fn refuse<T>(code: &str, message: &str) -> Abi<T> {
    RResult::RErr(error(code, message))
}

fn answer(value: &Value) -> Abi<RString> {
    RResult::ROk(value.to_string().into())
}

impl AbiArchFrontend for Frozen {
    fn accepts(&self, config: RStr<'_>) -> Abi<RString> {
        let config: Value = serde_json::from_str(config.as_str()).unwrap_or_default();
        match config["model_type"] == "frozen" {
            true => answer(&json!({ "rank": "model_type", "reason": "it is frozen", "refusals": [
                { "code": "A0205", "key": "model_type", "message": "nothing frozen can be moved" },
            ] })),
            false => answer(&json!({ "rank": "none", "reason": "it is not frozen" })),
        }
    }

    fn open(&self, _: RStr<'_>, _: HostBox) -> Abi<ArchModelBox> {
        refuse("A0205", "nothing frozen can be moved")
    }
}

impl AbiQuantizer for Frozen {
    fn scheme(&self, outline: RStr<'_>) -> Abi<RString> {
        let outline: Value = serde_json::from_str(outline.as_str()).unwrap_or_default();
        let summary = format!("{} layers, one table for a matrix", outline["layers"]);
        answer(&json!({ "labels": { "bits.layers": 8 }, "summary": summary }))
    }

    fn plan(
        &self,
        _: RStr<'_>,
        weights: RStr<'_>,
        programs: RSlice<'_, RSlice<'_, u8>>,
        _: RSlice<'_, AbiTensor<'_>>,
        host: HostBox,
    ) -> Abi<RString> {
        if programs.is_empty() || programs.iter().any(|program| program.is_empty()) {
            return refuse("A0121", "there is no program");
        }
        host.log(3, "frozen".into(), "the plan is made".into());
        let weights: Value = serde_json::from_str(weights.as_str()).unwrap_or_default();
        let mut decisions = serde_json::Map::new();
        for weight in weights.as_array().into_iter().flatten() {
            let shape = weight["shape"].as_array().cloned().unwrap_or_default();
            if shape.len() < 2 {
                continue;
            }
            let table = table_shape(shape.len());
            decisions.insert(
                weight["id"].as_str().unwrap_or_default().to_owned(),
                json!({ "parameters": null, "encoding": {
                    "op": "constexpr_lut_to_dense",
                    "arguments": {
                        "indices": { "dtype": "uint8", "shape": shape },
                        "lut": { "dtype": "float16", "shape": table },
                    },
                } }),
            );
        }
        answer(&json!({ "decisions": decisions }))
    }

    fn encode(
        &self,
        tensor: AbiTensor<'_>,
        _: RStr<'_>,
        _: ROption<AbiTensor<'_>>,
        mut sink: SinkMut<'_>,
        host: HostBox,
    ) -> Abi<RString> {
        let shape = tensor.shape.as_slice();
        // The high bytes of 16-bit floats are their sign, their exponent and two bits of what
        // follows: a value is near the one that its high byte stands for.
        let indices: Vec<u8> = tensor.bytes.as_slice().iter().skip(1).step_by(2).copied().collect();
        let lut: Vec<u8> = (0..=255).flat_map(|high| [0x80, high]).collect();
        match host.cancelled() {
            RResult::ROk(false) => {}
            RResult::ROk(true) => return refuse("A0803", "interrupted"),
            RResult::RErr(error) => return RResult::RErr(error),
        }
        let mut write = |name: &str, dtype: u32, shape: &[u64], bytes: &[u8]| {
            let id = match sink.begin(name.into(), dtype, shape.into()) {
                RResult::ROk(id) => id,
                RResult::RErr(error) => return Err(error),
            };
            for call in [sink.write(id, bytes.into()), sink.finish(id)] {
                if let RResult::RErr(error) = call {
                    return Err(error);
                }
            }
            Ok(())
        };
        let written = write("indices", UINT8, shape, &indices)
            .and_then(|()| write("lut", FLOAT16, &table_shape(shape.len()), &lut));
        match written {
            Ok(()) => answer(&json!({})),
            Err(error) => RResult::RErr(error),
        }
    }
}

/// One table of 256 scalars for a weight with so many dimensions.
fn table_shape(rank: usize) -> Vec<u64> {
    let mut shape = vec![1; rank + 2];
    shape[rank] = 256;
    shape
}

/// Numbers of element types.
const FLOAT16: u32 = 10;
const UINT8: u32 = 31;

impl AbiCombiner for Frozen {
    fn layout(&self, _: RStr<'_>, _: RStr<'_>) -> Abi<RString> {
        refuse("A0802", "nothing frozen can be laid out")
    }

    fn combine(&self, _: RSlice<'_, AbiNamedBytes<'_>>, _: RStr<'_>, _: HostBox) -> Abi<Blob> {
        refuse("A0405", "nothing frozen can be joined")
    }
}

const UNAVAILABLE: &str = "it has been frozen";

impl AbiCompiler for Frozen {
    fn check(&self) -> Abi<RString> {
        answer(&json!({ "available": false, "reason": UNAVAILABLE }))
    }

    fn compile(&self, _: RSlice<'_, u8>, _: RSlice<'_, u8>, _: HostBox) -> Abi<RVec<u8>> {
        refuse("A0601", UNAVAILABLE)
    }
}

impl AbiRuntime for Frozen {
    fn check(&self) -> Abi<RString> {
        answer(&json!({ "available": false, "reason": UNAVAILABLE }))
    }

    fn open(&self, _: RSlice<'_, u8>, _: HostBox) -> Abi<SessionBox> {
        refuse("A0701", UNAVAILABLE)
    }
}
