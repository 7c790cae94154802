//! The reference package gives the numbers of an independent witness, bit for bit.

use anemll_plugin_api::{DType, Host, LoadedPlugin, MemorySink, Result, Tensor};
use anemll_runtime_my_plugin::MyPluginPlugin;
use half::f16;

fn bytes(numbers: &serde_json::Value) -> Vec<u8> {
    let numbers = numbers.as_array().into_iter().flatten();
    numbers.flat_map(|number| f16::from_f64(number.as_f64().unwrap()).to_le_bytes()).collect()
}

#[test]
fn outputs_are_those_of_the_witness() -> Result<()> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(folder.join("reference.json")).unwrap();
    let numbers: serde_json::Value = serde_json::from_str(&text).unwrap();
    let plugin = LoadedPlugin::of::<MyPluginPlugin>()?;
    let runtime = plugin.runtime("my-plugin", &Default::default())?;
    let mut session = runtime.open(&folder.join("reference.mlpackage"), &Host::quiet())?;
    let x = Tensor::new("x", DType::FLOAT16, [2, 8], bytes(&numbers["x"]))?;
    let mut sink = MemorySink::new();
    session.run("main", &[x.view()?], &[], &mut sink)?;
    assert_eq!(sink.into_tensors()?[0].bytes, bytes(&numbers["y"]));
    Ok(())
}
