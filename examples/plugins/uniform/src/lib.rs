//! Quantizer: evenly spaced values between the least and the greatest of a few rows, in look-up tables.

use anemll_plugin_api::data::{
    Decision, Encoded, Encoding, Outline, Plan, PlanRequest, Scheme, Stage,
};
use anemll_plugin_api::{
    ComponentOptions, DType, Error, Host, Plugin, Quantizer, Result, Sink, TensorView, Value,
    codes, no_such_component,
};

/// Its options.
struct Uniform {
    /// Bits of an index: 2, 4 or 8.
    bits: u32,
    /// Rows that share a table, where they divide a weight's rows.
    rows: u64,
}

impl Uniform {
    fn encoding(&self, shape: &[u64], rows: u64) -> Encoding {
        let mut lut = vec![1; shape.len() + 2];
        lut[0] = shape[0] / rows;
        lut[shape.len()] = 1 << self.bits;
        let indices = match self.bits {
            2 => DType::UINT2,
            4 => DType::UINT4,
            _ => DType::UINT8,
        };
        Encoding::new("constexpr_lut_to_dense")
            .with_argument("indices", indices, shape)
            .with_argument("lut", DType::FLOAT16, lut)
    }
}

impl Quantizer for Uniform {
    fn scheme(&self, _: &Outline) -> Result<Scheme> {
        let label = |part: &str| (format!("bits.{part}"), Value::from(self.bits));
        Ok(Scheme::default()
            .with_labels(["embeddings", "layers", "head"].map(label).into_iter().collect())
            .with_summary(format!("{} even steps", 1 << self.bits)))
    }

    fn plan(&self, request: &PlanRequest<'_>, _: &Host) -> Result<Plan> {
        let mut plan = Plan::default();
        // What gets no decision stays in float16: gains of norms, biases, and what has a single row.
        let is_matrix = |shape: &[u64]| shape.len() > 1 && shape[0] > 1;
        for weight in request.weights.iter().filter(|weight| is_matrix(&weight.shape)) {
            let fits = weight.shape[0].is_multiple_of(self.rows);
            let rows = if fits { self.rows } else { 1 };
            let decision = Decision::default()
                .with_encoding(self.encoding(&weight.shape, rows))
                .with_parameters(Value::from(rows))
                .with_note((!fits).then(|| "a table for each row".to_owned()));
            plan.decisions.insert(weight.id.clone(), decision);
        }
        Ok(plan)
    }

    fn encode(
        &self,
        tensor: TensorView<'_>,
        parameters: &Value,
        _: Option<TensorView<'_>>,
        sink: &mut dyn Sink,
        host: &Host,
    ) -> Result<Encoded> {
        let suits = |rows: &u64| {
            tensor.dtype() == DType::FLOAT16
                && *rows > 0
                && tensor.element_count() > 0
                && tensor.shape().first().is_some_and(|all| all.is_multiple_of(*rows))
        };
        let Some(rows) = parameters.as_u64().filter(suits) else {
            let text = "the weight is not one that was planned";
            return Err(Error::new(codes::PLUGIN_BAD_REQUEST, text).with_at(tensor.name()));
        };
        let halves = tensor.bytes().as_chunks::<2>().0.iter();
        let values: Vec<f32> =
            halves.map(|bytes| half::f16::from_le_bytes(*bytes).to_f32()).collect();
        if values.iter().any(|value| !value.is_finite()) {
            let text = "a value is NaN or infinite";
            return Err(Error::new(codes::WEIGHT_NOT_FINITE, text).with_at(tensor.name()));
        }
        let columns = values.len() / tensor.shape()[0] as usize;
        let last = ((1_u32 << self.bits) - 1) as f32;
        let (mut indices, mut lut) = (Vec::new(), Vec::new());
        for group in values.chunks(columns * rows as usize) {
            host.check_cancelled()?;
            let least = group.iter().copied().fold(f32::INFINITY, f32::min);
            let greatest = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let step = (greatest - least) / last;
            for level in 0..1 << self.bits {
                let entry = least + step * level as f32;
                lut.extend(half::f16::from_f32(entry).to_le_bytes());
            }
            let index =
                |value: &f32| if step > 0.0 { ((value - least) / step).round() } else { 0.0 };
            indices.extend(group.iter().map(|value| index(value).clamp(0.0, last) as u8));
        }
        // Several indices in a byte, the first in the low bits.
        let pack = |some: &[u8]| {
            some.iter().rev().fold(0, |byte, index| ((u32::from(byte) << self.bits) as u8) | index)
        };
        let packed: Vec<u8> = indices.chunks(8 / self.bits as usize).map(pack).collect();
        let encoding = self.encoding(tensor.shape(), rows);
        for (name, bytes) in [("indices", packed), ("lut", lut)] {
            let kind = &encoding.arguments[name];
            sink.tensor(name, kind.dtype, &kind.shape, &bytes)?;
        }
        Ok(Encoded::default())
    }
}

/// The plugin `uniform`.
pub struct UniformPlugin;

impl Plugin for UniformPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn quantizer(id: &str, options: &ComponentOptions) -> Result<Box<dyn Quantizer>> {
        if id != "uniform" {
            return Err(no_such_component(Stage::Quantizer, id));
        }
        let levels = options.integer("levels")?.unwrap_or(16);
        let rows = options.integer("rows")?.unwrap_or(4);
        Ok(Box::new(Uniform { bits: levels.max(2).ilog2(), rows }))
    }
}
