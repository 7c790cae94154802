//! A panic inside a guard is not printed; any other still is. One test, because a program has one
//! panic hook.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use anemll_plugin_api::data::*;
use anemll_plugin_api::*;

static PRINTED: AtomicUsize = AtomicUsize::new(0);

struct Panicking;

impl ArchFrontend for Panicking {
    fn accepts(&self, _: &str) -> Result<Verdict> {
        panic!("first line\n  second line\u{1b}[2J")
    }

    fn open(&self, _: &ModelInput, _: &Host) -> Result<Box<dyn ArchModel>> {
        Ok(Box::new(Self))
    }
}

impl ArchModel for Panicking {
    fn describe(&self) -> ModelDescription {
        ModelDescription::default()
    }

    fn lower(&self, _: &FunctionSpec, host: &Host) -> Result<Vec<u8>> {
        host.parallel(4, &|index| panic!("task {index}")).map(|()| Vec::new())
    }
}

struct StubPlugin;

impl Plugin for StubPlugin {
    const MANIFEST: &'static str = r#"{"name": "stub", "version": "0", "abi": 1,
        "components": [{"stage": "arch", "id": "stub"}]}"#;

    fn arch_frontend(_: &str, _: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        Ok(Box::new(Panicking))
    }
}

#[test]
fn guarded_panics_are_not_printed_and_others_are() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {
        PRINTED.fetch_add(1, Ordering::SeqCst);
    }));
    let plugin = LoadedPlugin::of::<StubPlugin>().unwrap();
    let frontend = plugin.arch_frontend("stub", &ComponentOptions::new()).unwrap();
    let error = frontend.accepts("{}").unwrap_err();
    let (_, host) = testing::TestHost::new();
    let function = FunctionSpec::new("f", Purpose::Infer).with_embedding(true).with_head(true);
    let model = frontend.open(&ModelInput::default(), &host).unwrap();
    let in_task = model.lower(&function, &host).unwrap_err();
    let inside = PRINTED.load(Ordering::SeqCst);
    let _ = std::panic::catch_unwind(|| panic!("outside of a guard"));
    let outside = PRINTED.load(Ordering::SeqCst);
    let _ = std::panic::take_hook();
    std::panic::set_hook(before);

    assert_eq!(inside, 0);
    assert_eq!(outside, 1);
    // One line, and nothing that could drive a terminal.
    assert_eq!(
        error.message,
        "plugin `stub` panicked in `arch.accepts`: first line; second line\u{fffd}[2J"
    );
    assert_eq!(
        in_task.message,
        "plugin `stub` panicked in `model.lower`: parallel call 0 panicked: task 0"
    );
    assert!(in_task.at.unwrap().contains("quiet.rs:"));
}
