//! Quantizer: whole numbers of 8 bits, with a factor for each row.

use anemll_plugin_api::data::{
    Decision, Encoded, Encoding, Outline, Plan, PlanRequest, Scheme, Stage,
};
use anemll_plugin_api::{
    ComponentOptions, DType, Error, Host, Plugin, Quantizer, Result, Sink, TensorView, Value,
    codes, no_such_component,
};
use half::f16;

struct MyPlugin {
    embedding: bool,
}

/// The operation that stands in a weight's place in the program, with the types of its arguments:
/// `data * scale`, where `scale` has one factor for each row.
fn encoding(shape: &[u64]) -> Encoding {
    let mut factors = vec![1; shape.len()];
    factors[0] = shape[0];
    Encoding::new("constexpr_blockwise_shift_scale")
        .with_argument("data", DType::INT8, shape)
        .with_argument("scale", DType::FLOAT16, factors)
}

impl Quantizer for MyPlugin {
    fn scheme(&self, _: &Outline) -> Result<Scheme> {
        let label = |part: &str| (format!("bits.{part}"), Value::from(8));
        let mut labels = vec![label("layers"), label("head")];
        if self.embedding {
            labels.push(label("embeddings"));
        }
        let labels = labels.into_iter().collect();
        Ok(Scheme::default().with_labels(labels).with_summary("8 bits, a factor for each row"))
    }

    fn plan(&self, request: &PlanRequest<'_>, _: &Host) -> Result<Plan> {
        let mut plan = Plan::default();
        // What gets no decision stays in float16: gains of norms, biases, and what has a single row.
        let is_matrix = |shape: &[u64]| shape.len() > 1 && shape[0] > 1;
        for weight in request.weights.iter().filter(|weight| is_matrix(&weight.shape)) {
            if self.embedding || weight.role != "embedding" {
                let decision = Decision::default().with_encoding(encoding(&weight.shape));
                plan.decisions.insert(weight.id.clone(), decision);
            }
        }
        Ok(plan)
    }

    fn encode(
        &self,
        tensor: TensorView<'_>,
        _parameters: &Value,
        _statistics: Option<TensorView<'_>>,
        sink: &mut dyn Sink,
        host: &Host,
    ) -> Result<Encoded> {
        host.check_cancelled()?;
        let shape = tensor.shape();
        let rows = shape.first().map_or(0, |rows| *rows as usize);
        if tensor.dtype() != DType::FLOAT16 || rows == 0 {
            let text = format!("cannot encode {} of the shape {shape:?}", tensor.dtype());
            return Err(Error::new(codes::PLUGIN_BAD_REQUEST, text).with_at(tensor.name()));
        }
        let halves = tensor.bytes().as_chunks::<2>().0;
        let values: Vec<f32> =
            halves.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect();
        if values.iter().any(|value| !value.is_finite()) {
            let text = "a value is NaN or infinite";
            return Err(Error::new(codes::WEIGHT_NOT_FINITE, text).with_at(tensor.name()));
        }
        let (mut data, mut scale) = (Vec::new(), Vec::new());
        for row in values.chunks((values.len() / rows).max(1)) {
            let largest = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            // The factor as it is stored: what it was rounded by is not lost.
            let factor = f16::from_f32(largest / 127.0);
            let step = factor.to_f32();
            let whole = |value: &f32| if step > 0.0 { (value / step).round() } else { 0.0 };
            data.extend(row.iter().map(|value| whole(value).clamp(-127.0, 127.0) as i8 as u8));
            scale.extend(factor.to_le_bytes());
        }
        let encoding = encoding(shape);
        for (name, bytes) in [("data", data), ("scale", scale)] {
            let kind = &encoding.arguments[name];
            sink.tensor(name, kind.dtype, &kind.shape, &bytes)?;
        }
        Ok(Encoded::default())
    }
}

/// The plugin `my-plugin`.
pub struct MyPluginPlugin;

impl Plugin for MyPluginPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn quantizer(id: &str, options: &ComponentOptions) -> Result<Box<dyn Quantizer>> {
        match id {
            "my-plugin" => {
                let embedding = options.boolean("embedding")?.unwrap_or(true);
                Ok(Box::new(MyPlugin { embedding }))
            }
            _ => Err(no_such_component(Stage::Quantizer, id)),
        }
    }
}
