//! The quantizer of a conversion, what it is given, and its plan.

use super::output_scale;
use super::references::{Item, Weight};
use super::statistics::Statistics;
use crate::quantizer_choice::Chosen;
use anemll_codes as codes;
use anemll_huggingface::ModelDirectory;
use anemll_mil::ops::{self, Arguments, Operand, Origin, Placement};
use anemll_mil::{DataType, Literal, Opset, Symbols, TensorType, ValueType};
use anemll_mlpackage::BlobType;
use anemll_plugin_api::data::{
    ArgumentType, Decision, Encoding, ModelDescription, Outline, Plan, PlanRequest, Scheme,
    WeightInfo,
};
use anemll_plugin_api::{DType, Error, Host, Quantizer, Result, Tensor};
use coreml_proto::Model;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

/// What becomes of weights, by id; nothing for those that stay float16.
pub type Decisions = BTreeMap<String, Option<Decision>>;

/// A quantizer and the statistics that it is given.
pub struct Quantization {
    /// Its id.
    pub id: String,
    /// The plugin.
    pub(super) quantizer: Box<dyn Quantizer>,
    /// Statistics of the weights' inputs: those that the user gave, or those of a calibration, once
    /// it is done.
    statistics: OnceLock<Statistics>,
    /// What was decided by measures, in place of the quantizer's own decisions.
    decisions: OnceLock<Decisions>,
}

/// What a quantizer is told of a conversion.
pub fn outline(description: &ModelDescription, whole: bool) -> Outline {
    Outline::new(description.parameters, description.layers).with_whole(whole)
}

impl Quantization {
    /// A quantizer without statistics.
    pub fn new((id, quantizer): Chosen) -> Self {
        Self { id, quantizer, statistics: OnceLock::new(), decisions: OnceLock::new() }
    }

    /// The same quantizer with the statistics of a file. Without a directory of weights, the names in
    /// it are not checked.
    ///
    /// # Errors
    /// The file cannot be used.
    pub(super) fn with_statistics(
        self,
        path: &Path,
        directory: Option<&ModelDirectory>,
    ) -> Result<Self> {
        self.take(Statistics::read(path, directory)?);
        Ok(self)
    }

    /// Takes statistics, if there are none yet.
    pub(super) fn take(&self, statistics: Statistics) {
        // Those that the user gave stay.
        let _ = self.statistics.set(statistics);
    }

    /// The statistics, if there are any.
    pub(super) fn statistics(&self) -> Option<&Statistics> {
        self.statistics.get()
    }

    /// What the quantizer says of a conversion before it is planned.
    ///
    /// # Errors
    /// Those of the quantizer.
    pub(super) fn scheme(&self, outline: &Outline) -> Result<Scheme> {
        self.quantizer.scheme(outline)
    }

    /// sha256 of the statistics file in hexadecimal: other statistics make another conversion.
    pub(super) fn statistics_sha256(&self) -> Option<&str> {
        self.statistics().map(Statistics::sha256)
    }

    /// Takes decisions that were made by measures, if there are none yet.
    pub(super) fn decide(&self, decisions: Decisions) {
        // Those that were given stay.
        let _ = self.decisions.set(decisions);
    }

    /// Whether decisions were made by measures.
    pub(super) fn is_decided(&self) -> bool {
        self.decisions.get().is_some()
    }

    /// All that could become of the weights of some functions, by id.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub(super) fn choices(
        &self,
        outline: &Outline,
        items: &[(String, Item)],
        functions: &[(&str, &Model)],
        host: &Host,
    ) -> Result<BTreeMap<String, Vec<Decision>>> {
        let outline = outline.clone().with_choices(true);
        Ok(self.plan(&outline, items, functions, host)?.choices)
    }

    /// What is to happen to the weights of some functions.
    ///
    /// # Errors
    /// Those of the quantizer, statistics that do not suit, and answers that make no sense.
    pub(crate) fn plan(
        &self,
        outline: &Outline,
        items: &[(String, Item)],
        functions: &[(&str, &Model)],
        host: &Host,
    ) -> Result<Plan> {
        let members: Vec<&Weight> = items
            .iter()
            .filter_map(|(_, item)| match item {
                Item::Weight(weight) => Some(&**weight),
                Item::Table { .. } => None,
            })
            .collect();
        let mut weights = Vec::new();
        let mut statistics = Vec::new();
        for weight in &members {
            let known = match self.statistics() {
                Some(statistics) => statistics.squares(weight, &weight.id)?,
                None => None,
            };
            let has_statistics = known.is_some();
            statistics.extend(known);
            weights.push(
                WeightInfo::new(
                    weight.id.clone(),
                    weight.reference.tensor.clone(),
                    weight.reference.role.clone(),
                    weight.shape.clone(),
                )
                .with_layer(weight.reference.layer)
                .with_functions(weight.functions.clone())
                .with_reads(weight.reference.reads.clone())
                .with_writes(weight.reference.writes.clone())
                .with_statistics(has_statistics),
            );
        }
        let programs: Vec<Vec<u8>> =
            functions.iter().map(|(_, model)| coreml_proto::write(*model)).collect();
        let request = PlanRequest::default()
            .with_outline(
                outline.clone().with_tokens(self.statistics().map_or(0, Statistics::tokens)),
            )
            .with_weights(weights)
            .with_programs(programs.iter().map(Vec::as_slice).collect())
            .with_statistics(statistics.iter().map(Tensor::view).collect::<Result<_>>()?);
        let mut plan = self.quantizer.plan(&request, host)?;
        for weight in &request.weights {
            match self.decisions.get().and_then(|decided| decided.get(&weight.id)) {
                Some(Some(decision)) => {
                    plan.decisions.insert(weight.id.clone(), decision.clone());
                }
                Some(None) => drop(plan.decisions.remove(&weight.id)),
                None => {}
            }
        }
        let named = plan
            .decisions
            .keys()
            .chain(plan.choices.keys())
            .chain(plan.transforms.iter().map(|one| &one.weight));
        for id in named {
            if !request.weights.iter().any(|weight| weight.id == *id) {
                let what = format!("the plan names the weight `{id}`, which does not exist");
                return Err(self.blame(&what));
            }
        }
        for weight in &request.weights {
            let decided = plan.decisions.get(&weight.id);
            let choices = plan.choices.get(&weight.id).into_iter().flatten();
            for decision in decided.into_iter().chain(choices) {
                if decision.output_scale {
                    self.check_output_scale(decision, weight, functions)?;
                }
                let Some(encoding) = &decision.encoding else { continue };
                check_encoding(encoding, &weight.shape).map_err(|why| {
                    self.blame(&format!(
                        "the plan puts `{}` in place of `{}`: {why}",
                        encoding.op, weight.tensor
                    ))
                })?;
            }
        }
        if let Some(statistics) = self.statistics() {
            statistics.check_complete(&members, &plan)?;
        }
        Ok(plan)
    }

    /// Only products can be multiplied after the weight.
    fn check_output_scale(
        &self,
        decision: &Decision,
        weight: &WeightInfo,
        functions: &[(&str, &Model)],
    ) -> Result<()> {
        let why = match &decision.encoding {
            None => Some("it is not encoded".to_owned()),
            Some(encoding) if encoding.arguments.contains_key(Decision::OUTPUT_SCALE) => {
                Some(format!("the operation has an `{}` itself", Decision::OUTPUT_SCALE))
            }
            Some(_) => output_scale::obstacle(functions, &weight.id),
        };
        match why {
            None => Ok(()),
            Some(why) => {
                let tensor = &weight.tensor;
                Err(self.blame(&format!("the plan scales the products of `{tensor}`: {why}")))
            }
        }
    }

    /// An answer of the quantizer that makes no sense.
    pub(super) fn blame(&self, what: &str) -> Error {
        let id = &self.id;
        Error::new(codes::PLUGIN_BAD_ANSWER, format!("the quantizer `{id}` is wrong: {what}"))
            .with_hint("this is a bug in the quantizer plugin; please report it to its author")
    }
}

/// The operation by which a decision stores its weight.
pub(crate) fn encoding_of<'a>(
    plan: &'a Plan,
    weight: &Weight,
) -> Option<(&'a Decision, &'a Encoding)> {
    let decision = plan.decisions.get(&weight.id)?;
    Some((decision, decision.encoding.as_ref()?))
}

/// The type of an argument in the tables of operations; none of a type that a weight file cannot
/// hold, or of a size that cannot be told.
pub(super) fn stored_type(argument: &ArgumentType) -> Option<TensorType> {
    let kind = DataType::from_proto(i32::try_from(argument.dtype.0).ok()?).ok()?;
    BlobType::from_data_type(kind)?;
    argument.dtype.byte_length(&argument.shape)?;
    Some(TensorType::new(kind, &argument.shape))
}

/// Whether an operation can take the place of a weight of this shape, so that a program with it is
/// valid.
fn check_encoding(encoding: &Encoding, shape: &[u64]) -> std::result::Result<(), String> {
    let definition = ops::find(&encoding.op, Opset::CoreML8)?;
    if !definition.is_constexpr() || definition.placement != Placement::ConstantInputs {
        return Err("it is not an operation of iOS 18 that makes weights".to_owned());
    }
    let mut types = Vec::new();
    for (name, argument) in &encoding.arguments {
        let kind = stored_type(argument).ok_or_else(|| {
            let ArgumentType { dtype, shape, .. } = argument;
            format!("a weight file cannot hold `{name}`, {dtype} {shape:?}")
        })?;
        types.push((name, ValueType::from(kind)));
    }
    let whole_number = ValueType::from(TensorType::new(DataType::Int32, &[]));
    let mut settings = Vec::new();
    for (name, value) in &encoding.settings {
        if encoding.arguments.contains_key(name) {
            return Err(format!("`{name}` is both stored and set"));
        }
        settings.push((name, Literal::int32(*value).to_value()?));
    }
    let symbols = Symbols::default();
    let mut arguments = Arguments::new(&symbols);
    let stored = types.iter().map(|(name, kind)| (*name, kind, None));
    let set = settings.iter().map(|(name, value)| (*name, &whole_number, Some(value)));
    for (name, kind, value) in stored.chain(set) {
        let label = format!("`{name}`");
        let operand = Operand { label, kind, origin: Origin::Constant, value };
        arguments.bind(name, vec![operand]);
    }
    let weight = ValueType::from(TensorType::new(DataType::Float16, shape));
    match ops::infer(definition, &arguments, Opset::CoreML8)?.as_slice() {
        [made] if *made == weight => Ok(()),
        made => {
            let made: Vec<String> = made.iter().map(ToString::to_string).collect();
            Err(format!("it makes {}, not {weight}", made.join(" and ")))
        }
    }
}

/// Whether what was written for a weight is what was planned.
pub(super) fn check_written(
    decision: &Decision,
    encoding: &Encoding,
    shape: &[u64],
    written: &[anemll_plugin_api::Tensor],
) -> std::result::Result<(), String> {
    let text = |dtype: DType, shape: &[u64]| format!("{dtype} {shape:?}");
    let scale_type = ArgumentType::new(DType::FLOAT16, shape.get(..1).unwrap_or_default());
    let scale = decision.output_scale.then_some((Decision::OUTPUT_SCALE, &scale_type));
    let planned = encoding.arguments.iter().map(|(name, planned)| (name.as_str(), planned));
    for (name, planned) in planned.chain(scale) {
        let mut of_name = written.iter().filter(|tensor| tensor.name == name);
        let planned_text = text(planned.dtype, &planned.shape);
        match (of_name.next(), of_name.next()) {
            (None, _) => return Err(format!("planned `{name}`, {planned_text}, and wrote none")),
            (Some(_), Some(_)) => return Err(format!("wrote `{name}` twice")),
            (Some(one), None) if one.dtype != planned.dtype || one.shape != planned.shape => {
                let found = text(one.dtype, &one.shape);
                return Err(format!("planned `{name}` as {planned_text}, but wrote {found}"));
            }
            (Some(_), None) => {}
        }
    }
    let is_planned = |tensor: &&anemll_plugin_api::Tensor| {
        encoding.arguments.contains_key(&tensor.name)
            || (decision.output_scale && tensor.name == Decision::OUTPUT_SCALE)
    };
    match written.iter().find(|tensor| !is_planned(tensor)) {
        Some(other) => Err(format!("wrote `{}`, which was not planned", other.name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoding(op: &str, arguments: &[(&str, DType, &[u64])]) -> Encoding {
        let with = |encoding: Encoding, (name, dtype, shape): &(&str, DType, &[u64])| {
            encoding.with_argument(*name, *dtype, *shape)
        };
        arguments.iter().fold(Encoding::new(op), with)
    }

    const LUT: &str = "constexpr_lut_to_dense";

    #[test]
    fn an_operation_must_give_the_weight_back() {
        let good = encoding(
            LUT,
            &[("indices", DType::UINT4, &[8, 6]), ("lut", DType::FLOAT16, &[2, 1, 16, 1])],
        );
        check_encoding(&good, &[8, 6]).unwrap();
        let vectors = |shape: &[u64]| {
            encoding(
                LUT,
                &[("indices", DType::UINT4, shape), ("lut", DType::FLOAT16, &[1, 1, 16, 2])],
            )
        };
        check_encoding(&vectors(&[4, 6]).with_setting("vector_axis", 0), &[8, 6]).unwrap();
        for (wrong, why) in [
            (vectors(&[4, 6]), "vector_axis"),
            (vectors(&[4, 6]).with_setting("vector_axis", 1), "[4, 12]"),
            (vectors(&[4, 6]).with_setting("vector_axis", 2), "vector_axis"),
            (vectors(&[4, 6]).with_setting("axis", 0), "`axis`"),
            (vectors(&[4, 6]).with_setting("lut", 0), "both stored and set"),
        ] {
            let error = check_encoding(&wrong, &[8, 6]).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let error = check_encoding(&good, &[6, 8]).unwrap_err();
        assert!(error.contains("[8, 6]") && error.contains("[6, 8]"), "{error}");
        for (wrong, why) in [
            (encoding("add", &[]), "not an operation of iOS 18"),
            (encoding("constexpr_magic", &[]), "constexpr_magic"),
            (encoding("constexpr_affine_dequantize", &[]), "not an operation of iOS 18"),
            (encoding(LUT, &[("indices", DType::UINT4, &[8, 6])]), "`lut` is missing"),
            (encoding(LUT, &[("table", DType::UINT4, &[8, 6])]), "`table`"),
            (encoding(LUT, &[("indices", DType::STRING, &[8, 6])]), "cannot hold `indices`"),
            (encoding(LUT, &[("indices", DType::UINT4, &[u64::MAX, 9])]), "cannot hold `indices`"),
            (
                encoding(
                    LUT,
                    &[("indices", DType::UINT4, &[8, 6]), ("lut", DType::FLOAT16, &[2, 1, 8, 1])],
                ),
                "lut",
            ),
        ] {
            let error = check_encoding(&wrong, &[8, 6]).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_is_written_must_be_what_was_planned() {
        let planned = encoding(LUT, &[("indices", DType::UINT8, &[2]), ("lut", DType::INT8, &[1])]);
        let tensor = |name: &str, dtype: DType, bytes: &[u8]| {
            Tensor::new(name, dtype, [bytes.len() as u64], bytes).unwrap()
        };
        let (indices, lut) =
            (tensor("indices", DType::UINT8, &[1, 2]), tensor("lut", DType::INT8, &[1]));
        let plain = Decision::default();
        let scaled = Decision::default().with_output_scale(true);
        check_written(&plain, &planned, &[2], &[lut.clone(), indices.clone()]).unwrap();
        let scale = |bytes: &[u8]| {
            let size = bytes.len() as u64 / 2;
            Tensor::new(Decision::OUTPUT_SCALE, DType::FLOAT16, [size], bytes).unwrap()
        };
        let with = |scale: Tensor| [lut.clone(), indices.clone(), scale];
        check_written(&scaled, &planned, &[2], &with(scale(&[0; 4]))).unwrap();
        let error = check_written(&scaled, &planned, &[2], &with(scale(&[0; 2]))).unwrap_err();
        assert_eq!(error, "planned `output_scale` as float16 [2], but wrote float16 [1]");
        let error = check_written(&scaled, &planned, &[2], &with(scale(&[0; 4]))[..2]).unwrap_err();
        assert_eq!(error, "planned `output_scale`, float16 [2], and wrote none");
        let error = check_written(&plain, &planned, &[2], &with(scale(&[0; 4]))).unwrap_err();
        assert_eq!(error, "wrote `output_scale`, which was not planned");
        for (written, why) in [
            (vec![indices.clone()], "planned `lut`, int8 [1], and wrote none"),
            (vec![indices.clone(), lut.clone(), lut.clone()], "wrote `lut` twice"),
            (
                vec![indices.clone(), tensor("lut", DType::UINT8, &[1])],
                "planned `lut` as int8 [1], but wrote uint8 [1]",
            ),
            (
                vec![tensor("indices", DType::UINT8, &[1]), lut.clone()],
                "planned `indices` as uint8 [2], but wrote uint8 [1]",
            ),
            (
                vec![indices.clone(), lut.clone(), tensor("more", DType::UINT8, &[1])],
                "wrote `more`, which was not planned",
            ),
        ] {
            assert_eq!(check_written(&plain, &planned, &[2], &written).unwrap_err(), why);
        }
    }
}
