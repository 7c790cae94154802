//! A quantizer, tried out on weights that are made up.

use serde_json::{Value, json};

use super::{Component, Made, Trial, calm, must, refused};
use crate::data::{Decision, Outline, Plan, PlanRequest, WeightInfo};
use crate::{DType, Host, MemorySink, Quantizer, Result, Tensor};

/// The names, roles and shapes of a small model's weights.
const WEIGHTS: [(&str, &str, &[u64]); 6] = [
    ("embed_tokens", "embedding", &[48, 16]),
    ("norm", "norm.gain", &[16]),
    ("q_proj", "attention.q", &[16, 16, 1, 1]),
    ("up_proj", "mlp.up", &[40, 16, 1, 1]),
    ("down_proj", "mlp.down", &[16, 40, 1, 1]),
    ("lm_head", "head", &[48, 16, 1, 1]),
];

/// Numbers of a float16 that are not finite.
const NOT_FINITE: [u16; 3] = [0x7e00, 0x7c00, 0xfc00];

pub(super) struct Weights<'a> {
    made: Component<'a>,
}

impl<'a> Weights<'a> {
    pub(super) fn new(made: Component<'a>) -> Self {
        Self { made }
    }

    #[track_caller]
    fn quantizer(&self) -> Box<dyn Quantizer> {
        let Component { plugin, id, options } = self.made;
        must(id, plugin.quantizer(id, options))
    }

    /// The plan for all weights, whether or not more than one form of them is asked for.
    fn plan(quantizer: &dyn Quantizer, host: &Host) -> Result<Plan> {
        let outline = Outline::new(3000, 1).with_whole(true);
        let layer = |role: &str| (role.contains('.')).then_some(0);
        let weights = WEIGHTS.map(|(id, role, shape)| {
            WeightInfo::new(id, format!("{id}.weight"), role, shape)
                .with_layer(layer(role))
                .with_functions(vec!["infer".to_owned()])
        });
        let request = PlanRequest::default().with_outline(outline).with_weights(weights.to_vec());
        quantizer.plan(&request, host)
    }

    /// The weight of this id, with other values in every run of the count.
    fn weight(id: &str) -> Tensor {
        let shape = WEIGHTS.iter().find(|(other, ..)| *other == id).map_or(&[][..], |it| it.2);
        let count = shape.iter().product::<u64>();
        let mut state = count;
        let bits = (0..count).flat_map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let [.., low, high] = state.to_le_bytes();
            // Normal numbers from 2^-7 to just below 1, of both signs.
            let exponent = 8 + high % 7;
            let sign = high & 0x80;
            [low, sign | (exponent << 2) | (high >> 4 & 3)]
        });
        tensor(id, DType::FLOAT16, shape, bits.collect())
    }
}

#[track_caller]
fn tensor(name: &str, dtype: DType, shape: &[u64], bytes: Vec<u8>) -> Tensor {
    must(name, Tensor::new(name, dtype, shape, bytes))
}

fn encode(
    quantizer: &dyn Quantizer,
    tensor: &Tensor,
    parameters: &Value,
    host: &Host,
) -> Result<Vec<Tensor>> {
    let mut sink = MemorySink::new();
    quantizer.encode(tensor.view()?, parameters, None, &mut sink, host)?;
    sink.into_tensors()
}

/// What was written is what was planned: each argument of the operation, of its type.
#[track_caller]
fn check_written(id: &str, decision: &Decision, written: &[Tensor]) {
    let arguments = decision.encoding.iter().flat_map(|encoding| &encoding.arguments);
    let mut planned: Vec<(&str, DType, &[u64])> =
        arguments.map(|(name, kind)| (name.as_str(), kind.dtype, &*kind.shape)).collect();
    let rows = written.iter().find(|tensor| tensor.name == Decision::OUTPUT_SCALE);
    let rows = rows.map(|tensor| tensor.shape.clone()).unwrap_or_default();
    if decision.output_scale {
        planned.push((Decision::OUTPUT_SCALE, DType::FLOAT16, &rows));
    }
    let mut found: Vec<(&str, DType, &[u64])> =
        written.iter().map(|tensor| (&*tensor.name, tensor.dtype, &*tensor.shape)).collect();
    planned.sort_by_key(|(name, ..)| *name);
    found.sort_by_key(|(name, ..)| *name);
    assert_eq!(found, planned, "what was written for `{id}`, and what was planned");
}

impl Trial for Weights<'_> {
    fn work(&self, host: &Host) -> Result<Made> {
        let quantizer = self.quantizer();
        let scheme = quantizer.scheme(&Outline::new(3000, 1).with_whole(true))?;
        let plan = Self::plan(&*quantizer, host)?;
        let mut made = vec![
            ("the scheme".to_owned(), super::json(&scheme)),
            ("the plan".to_owned(), super::json(&plan)),
        ];
        for (id, decision) in &plan.decisions {
            if decision.encoding.is_none() {
                continue;
            }
            let written = encode(&*quantizer, &Self::weight(id), &decision.parameters, host)?;
            check_written(id, decision, &written);
            made.extend(
                written.into_iter().map(|tensor| (format!("{id}: {}", tensor.name), tensor.bytes)),
            );
        }
        Ok(made)
    }

    // Nothing can be stopped of a quantizer that leaves all weights as they are.
    fn can_be_stopped(&self) -> bool {
        let plan = must("the plan", Self::plan(&*self.quantizer(), &Host::quiet()));
        plan.decisions.values().any(|decision| decision.encoding.is_some())
    }

    fn check_unknown(&self) {
        let quantizer = self.quantizer();
        let plan = must("the plan", Self::plan(&*quantizer, &Host::quiet()));
        for id in plan.decisions.keys() {
            for parameters in [json!(null), json!(-1), json!(""), json!([0]), json!({"a": {}})] {
                let what = format!("`{id}` with the parameters {parameters}");
                let weight = Self::weight(id);
                let _ = calm(&what, encode(&*quantizer, &weight, &parameters, &Host::quiet()));
            }
        }
        let nothing = PlanRequest::default();
        let plan = calm("a plan for no weights", quantizer.plan(&nothing, &Host::quiet()));
        assert!(plan.is_ok_and(|plan| plan.decisions.is_empty()), "decisions for no weights");
    }

    fn check_damaged(&self) {
        let quantizer = self.quantizer();
        let plan = must("the plan", Self::plan(&*quantizer, &Host::quiet()));
        for (id, decision) in &plan.decisions {
            let try_out = |what: &str, tensor: &Tensor| {
                let what = format!("`{id}` {what}");
                let encoded = encode(&*quantizer, tensor, &decision.parameters, &Host::quiet());
                (what.clone(), calm(&what, encoded))
            };
            for number in NOT_FINITE {
                let mut weight = Self::weight(id);
                let middle = weight.bytes.len() / 4 * 2;
                weight.bytes[middle..middle + 2].copy_from_slice(&number.to_le_bytes());
                let (what, encoded) = try_out(&format!("with the float16 {number:#06x}"), &weight);
                refused(&what, encoded);
            }
            let weight = Self::weight(id);
            let wide = tensor(id, DType::FLOAT32, &weight.shape, weight.bytes.repeat(2));
            let (what, encoded) = try_out("in float32", &wide);
            refused(&what, encoded);
            // Whatever comes of these, it is no panic.
            for shape in [&[][..], &[0], &[0, 16], &[16, 0], &[1], &[3, 5], &[5, 3, 1, 1]] {
                let bytes = vec![0x30; 2 * shape.iter().product::<u64>() as usize];
                let _ = try_out(
                    &format!("of shape {shape:?}"),
                    &tensor(id, DType::FLOAT16, shape, bytes),
                );
            }
        }
    }
}
