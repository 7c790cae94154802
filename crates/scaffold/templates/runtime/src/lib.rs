//! Runtime that executes programs of `add`, `mul` and `relu` in float16.

mod program;

use std::path::Path;

use anemll_plugin_api::data::{Availability, SessionDescription, Stage};
use anemll_plugin_api::{
    ComponentOptions, Error, Host, Plugin, Result, Runtime, Session, Sink, TensorView, codes,
    no_such_component,
};
use program::{Program, Values};

struct MyPlugin;

impl Runtime for MyPlugin {
    fn check(&self) -> Result<Availability> {
        // A device that has to be there would be looked for here.
        Ok(Availability::yes("runs on every processor"))
    }

    fn open(&self, package: &Path, host: &Host) -> Result<Box<dyn Session>> {
        host.check_cancelled()?;
        let package = anemll_mlpackage::Package::open(package)?;
        Ok(Box::new(MySession { program: Program::read(package.model())? }))
    }
}

/// An open package. Its program has no states, so there is nothing to reset.
struct MySession {
    program: Program,
}

impl Session for MySession {
    fn describe(&self) -> SessionDescription {
        self.program.describe()
    }

    fn reset(&mut self) -> Result<()> {
        Ok(())
    }

    fn run(
        &mut self,
        function: &str,
        inputs: &[TensorView<'_>],
        taps: &[&str],
        outputs: &mut dyn Sink,
    ) -> Result<()> {
        if function != self.program.name() {
            let text = format!("the package has no function `{function}`");
            let hint = format!("its only function is `{}`", self.program.name());
            return Err(Error::new(codes::FUNCTION_UNKNOWN, text).with_hint(hint));
        }
        let values: Values = self.program.run(inputs)?;
        for name in self.program.outputs().chain(taps.iter().copied()) {
            let Some(value) = values.get(name) else {
                let text = format!("the function has no value `{name}`");
                return Err(Error::new(codes::VALUE_UNKNOWN, text));
            };
            outputs.tensor(name, value.dtype(), &value.shape, &value.bytes())?;
        }
        Ok(())
    }
}

/// The plugin `my-plugin`.
pub struct MyPluginPlugin;

impl Plugin for MyPluginPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn runtime(id: &str, _: &ComponentOptions) -> Result<Box<dyn Runtime>> {
        match id {
            "my-plugin" => Ok(Box::new(MyPlugin)),
            _ => Err(no_such_component(Stage::Runtime, id)),
        }
    }
}
