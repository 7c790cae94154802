//! Plugins that break the rules are found out, each by the check of that rule.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use anemll_plugin_api::data::{Decision, Encoded, Encoding, Plan, PlanRequest, Stage};
use anemll_plugin_api::testing::{Subject, conformance};
use anemll_plugin_api::{
    ComponentOptions, DType, Error, Host, Plugin, Quantizer, Result, Sink, TensorView, Value,
    codes, no_such_component,
};

/// What a quantizer does wrong.
const NOTHING: u8 = 0;
const PANICS: u8 = 1;
const TAKES_NAN: u8 = 2;
const GOES_ON: u8 = 3;
const COUNTS: u8 = 4;
const WRITES_MORE: u8 = 5;
const REFUSES_ITS_OPTION: u8 = 6;

/// Copies weights as they are, and makes one mistake.
struct Copies<const MISTAKE: u8>;

static CALLS: AtomicU64 = AtomicU64::new(0);

impl<const MISTAKE: u8> Quantizer for Copies<MISTAKE> {
    fn plan(&self, request: &PlanRequest<'_>, _: &Host) -> Result<Plan> {
        let mut plan = Plan::default();
        for weight in &request.weights {
            let encoding = Encoding::new("copy");
            let encoding = encoding.with_argument("data", DType::FLOAT16, weight.shape.clone());
            plan.decisions.insert(weight.id.clone(), Decision::default().with_encoding(encoding));
        }
        Ok(plan)
    }

    fn encode(
        &self,
        tensor: TensorView<'_>,
        _: &Value,
        _: Option<TensorView<'_>>,
        sink: &mut dyn Sink,
        host: &Host,
    ) -> Result<Encoded> {
        if MISTAKE != GOES_ON {
            host.check_cancelled()?;
        }
        assert!(MISTAKE != PANICS || tensor.shape().len() > 1, "a weight is a matrix");
        let finite = |bytes: &[u8; 2]| u16::from_le_bytes(*bytes) & 0x7c00 != 0x7c00;
        let is_finite = tensor.bytes().as_chunks().0.iter().all(finite);
        if tensor.dtype() != DType::FLOAT16 || MISTAKE != TAKES_NAN && !is_finite {
            return Err(Error::new(codes::WEIGHT_NOT_FINITE, "a weight is not a number"));
        }
        let mut bytes = tensor.bytes().to_vec();
        if MISTAKE == COUNTS && !bytes.is_empty() {
            bytes[0] = CALLS.fetch_add(1, Ordering::Relaxed) as u8;
        }
        sink.tensor("data", DType::FLOAT16, tensor.shape(), &bytes)?;
        if MISTAKE == WRITES_MORE {
            sink.tensor("more", DType::FLOAT16, &[1], &[0, 0])?;
        }
        Ok(Encoded::default())
    }
}

struct CopiesPlugin<const MISTAKE: u8>;

impl<const MISTAKE: u8> Plugin for CopiesPlugin<MISTAKE> {
    const MANIFEST: &'static str = r#"{
        "name": "copies", "version": "1.0.0", "abi": 1,
        "components": [{
            "stage": "quantizer", "id": "copies",
            "options": {"bits": {"type": "integer", "enum": [8, 16], "default": 16}}
        }]
    }"#;

    fn quantizer(id: &str, options: &ComponentOptions) -> Result<Box<dyn Quantizer>> {
        if MISTAKE == REFUSES_ITS_OPTION && options.integer("bits")? == Some(8) {
            return Err(options.refuse("bits", "16"));
        }
        match id {
            "copies" => Ok(Box::new(Copies::<MISTAKE>)),
            _ => Err(no_such_component(Stage::Quantizer, id)),
        }
    }
}

conformance!(CopiesPlugin<NOTHING>, options = {"bits": 8});

type Check = fn(&Subject);

const CHECKS: [Check; 5] = [
    |subject| subject.check_manifest("1.0.0"),
    Subject::check_unknown,
    Subject::check_damaged,
    Subject::check_stopping,
    Subject::check_repetition,
];

/// Which checks a plugin does not pass, by place in the list, and what the first of them says.
fn failures<P: Plugin>() -> (Vec<usize>, String) {
    let subject = Subject::of::<P>("", None, None);
    let mut said = String::new();
    let mut failed = Vec::new();
    for (place, check) in CHECKS.iter().enumerate() {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&subject))) {
            failed.push(place);
            if said.is_empty() {
                said = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .unwrap_or_else(|| panic.downcast_ref::<&str>().unwrap().to_string());
            }
        }
    }
    (failed, said)
}

#[track_caller]
fn expect<P: Plugin>(checks: &[usize], words: &str) {
    let (failed, said) = failures::<P>();
    assert!(failed == checks && said.contains(words), "{failed:?}: {said}");
}

#[test]
fn each_rule_has_a_check() {
    expect::<CopiesPlugin<NOTHING>>(&[], "");
    expect::<CopiesPlugin<REFUSES_ITS_OPTION>>(&[0], "copies with bits = 8");
    expect::<CopiesPlugin<TAKES_NAN>>(&[2], "with the float16 0x7e00: there is no error");
    expect::<CopiesPlugin<GOES_ON>>(&[3], "although the user had stopped it");
    expect::<CopiesPlugin<COUNTS>>(&[4], "is another one in a second run");
    let (failed, said) = failures::<CopiesPlugin<PANICS>>();
    assert!(failed.contains(&2) && said.contains("panicked"), "{failed:?}: {said}");
    let (failed, said) = failures::<CopiesPlugin<WRITES_MORE>>();
    assert!(failed.contains(&4) && said.contains("what was planned"), "{failed:?}: {said}");
}

#[test]
fn a_version_that_is_not_the_crates_is_found() {
    let subject = Subject::of::<CopiesPlugin<NOTHING>>("", None, None);
    let check = catch_unwind(AssertUnwindSafe(|| subject.check_manifest("0.9.0")));
    assert!(check.is_err());
}
