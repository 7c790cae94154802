use anemll_plugin_api::data::*;
use anemll_plugin_api::*;
use std::collections::BTreeMap;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let config: Value = serde_json::from_str(&std::fs::read_to_string(&a[1]).unwrap()).unwrap();
    let out = &a[2];
    let context: u64 = a[3].parse().unwrap();
    let batch: u64 = a[4].parse().unwrap();
    let f = anemll_arch_llama::LlamaFrontend::default();
    let m = ModelInput { config, context, batch, tensors: BTreeMap::new(), options: Value::Null };
    let d = f.describe(&m).unwrap();
    println!("{d:?}");
    let l = d.layers;
    let mk = |id: &str, e, r: Option<(u32, u32)>, h, p, x| FunctionSpec { id: id.into(), embedding: e, layers: r.map(|(first, end)| LayerRange { first, end }), head: h, purpose: p, argmax: x };
    use Purpose::*;
    for s in [
        mk("emb", true, None, false, Infer, false),
        mk("infer1", false, Some((0, l / 2)), false, Infer, false),
        mk("infer2", false, Some((l / 2, l)), false, Infer, false),
        mk("prefill1", false, Some((0, l / 2)), false, Prefill, false),
        mk("prefill2", false, Some((l / 2, l)), false, Prefill, false),
        mk("head", false, None, true, Infer, false),
        mk("headarg", false, None, true, Infer, true),
        mk("mono", true, Some((0, l)), true, Infer, false),
        mk("monoarg", true, Some((0, l)), true, Infer, true),
        mk("monopre", true, Some((0, l)), false, Prefill, false),
        mk("evaluate", true, Some((0, l)), true, Evaluate, false),
    ] {
        let b = f.lower(&m, &s, &Host::quiet()).unwrap();
        std::fs::write(format!("{out}/{}.mlmodel", s.id), b).unwrap();
    }
}
