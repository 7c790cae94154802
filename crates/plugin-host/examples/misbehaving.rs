//! A plugin library that does what its caller asks for, good or bad; `tests/dynamic.rs` loads it.

use anemll_plugin_api::data::*;
use anemll_plugin_api::*;

struct Misbehaving;

impl ArchFrontend for Misbehaving {
    fn accepts(&self, config_json: &str) -> Result<Verdict> {
        match config_json {
            text if text.contains("panic") => panic!("boom in a library"),
            "index" => {
                let empty: [u8; 0] = std::hint::black_box([]);
                Ok(Verdict::none(empty[config_json.len()].to_string()))
            }
            _ => Ok(Verdict::none("another model")),
        }
    }

    fn open(&self, _: &ModelInput, _: &Host) -> Result<Box<dyn ArchModel>> {
        Ok(Box::new(Self))
    }
}

impl ArchModel for Misbehaving {
    fn describe(&self) -> ModelDescription {
        ModelDescription::default()
    }

    fn lower(&self, function: &FunctionSpec, host: &Host) -> Result<Vec<u8>> {
        host.log(Level::Info, "misbehaving", "hello from a library");
        host.parallel(10, &|index| match function.id.as_str() {
            "panic" => panic!("boom in call {index}"),
            _ => host.progress("work", index as u64, 10),
        })?;
        Ok(function.id.clone().into_bytes())
    }
}

struct MisbehavingPlugin;

impl Plugin for MisbehavingPlugin {
    const MANIFEST: &'static str = r#"{
        "name": "misbehaving", "version": "1.2.3", "abi": 1, "license": "MIT",
        "components": [{"stage": "arch", "id": "misbehaving"}]
    }"#;

    fn arch_frontend(id: &str, _: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        match id {
            "misbehaving" => Ok(Box::new(Misbehaving)),
            _ => Err(no_such_component(Stage::Arch, id)),
        }
    }
}

export_plugin!(MisbehavingPlugin);
