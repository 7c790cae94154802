//! Weights whose products are multiplied by a factor for each output channel.

use crate::decode::{Decoder, Values};
use crate::error::Outcome;
use crate::groups::Groups;
use crate::source::{Scaled, Source};
use coreml_proto::mil;
use coreml_proto::mil::argument::binding::Binding;

impl<'a> Decoder<'a> {
    /// The values by which a weight multiplies in effect: those of [`Self::values`], and where the
    /// products of a `conv` or `linear` are its only use and are only multiplied by a constant for each
    /// output channel, times that. So a weight of rows that were divided by factors compares with the
    /// original.
    ///
    /// # Errors
    /// As [`Self::values`].
    pub fn effective_values(&self, name: &str) -> Outcome<Values<'a>> {
        let mut values = self.values(name)?;
        let Some(rows) = values.shape.first().copied().filter(|_| values.shape.len() > 1) else {
            return Ok(values);
        };
        let Some(factors) = self.factors(name, rows) else { return Ok(values) };
        let mut counts = vec![1; values.shape.len()];
        counts[0] = rows;
        let Some(groups) = Groups::new(&values.shape, &counts) else { return Ok(values) };
        values.source = Source::Scaled(Box::new(Scaled {
            data: values.source,
            scales: factors,
            offsets: None,
            groups,
        }));
        Ok(values)
    }

    /// The factors of a weight's output channels, if its products have any.
    fn factors(&self, weight: &str, rows: usize) -> Option<Vec<f32>> {
        let product = self.only_reader(weight)?;
        let is_weight = product.inputs.get("weight").and_then(name_of) == Some(weight);
        let from_right = match product.r#type.as_str() {
            "conv" => None,
            "linear" => Some(1),
            _ => return None,
        };
        let output = product.outputs.first().filter(|_| is_weight)?;
        // What is added before the factors would be multiplied, too.
        if product.inputs.contains_key("bias") {
            return None;
        }
        let multiplied = self.only_reader(&output.name).filter(|one| one.r#type == "mul")?;
        let [x, y] = ["x", "y"].map(|name| multiplied.inputs.get(name).and_then(name_of));
        let other = if x == Some(&*output.name) { y? } else { x? };
        let factors = self.values(other).ok()?;
        let rank = factors.shape.len();
        let axis = from_right.map_or(Some(1), |back| rank.checked_sub(back))?;
        let along = factors
            .shape
            .iter()
            .enumerate()
            .all(|(at, size)| *size == if at == axis { rows } else { 1 });
        let mut found = vec![0.0; factors.count()];
        factors.fill(0, &mut found).ok()?;
        (along && found.len() == rows).then_some(found)
    }

    /// The one operation that reads a value.
    fn only_reader(&self, name: &str) -> Option<&'a mil::Operation> {
        let readers = self.readers.get(name)?;
        match readers.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }
}

fn name_of(argument: &mil::Argument) -> Option<&str> {
    match argument.arguments.as_slice() {
        [one] => match &one.binding {
            Some(Binding::Name(name)) => Some(name),
            _ => None,
        },
        _ => None,
    }
}
