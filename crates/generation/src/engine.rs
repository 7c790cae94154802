//! Running a conversion: the packages of meta.yaml, called in the order in which an app calls them.
//!
//! How the apps drive the packages (ANEMLL's contract): the causal mask is 0 where the column is
//! at most the row's position and minus infinity elsewhere; prefill takes full batches from
//! `current_pos` on; a last batch that is not full is padded here, which changes nothing that is
//! read later, since every padded row of the cache is masked until a real token overwrites it.

use crate::meta::Meta;
use crate::observation::{Observer, ObservingSink};
use anemll_plugin_api::data::{EvaluationPaths, FunctionSignature, RunStep, ValueInfo};
use anemll_plugin_api::{DType, Error, Host, MemorySink, Result, Runtime, Session, Tensor, codes};
use half::f16;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use crate::meta::PATHS;

/// The input that says which positions a token sees.
const MASK: &str = "causal_mask";
/// More tokens of context than any model has.
const LONGEST: u64 = 1 << 22;
/// Elements of the largest mask, which is made anew for every call.
const LARGEST_MASK: u64 = 1 << 29;

/// What the head gives for one token.
#[derive(Debug, Clone)]
pub enum Head {
    /// Logits of the whole vocabulary.
    Logits(Vec<f32>),
    /// The largest logit, with `--argmax`: token and value.
    Largest(u32, f32),
}

impl Head {
    /// Whether a value is NaN, which no working model gives.
    pub fn has_not_a_number(&self) -> bool {
        match self {
            Self::Logits(values) => values.iter().any(|value| value.is_nan()),
            Self::Largest(_, value) => value.is_nan(),
        }
    }

    /// The token with the largest logit, the first of equals.
    pub fn best(&self) -> u32 {
        match self {
            Self::Largest(token, _) => *token,
            Self::Logits(values) => crate::evaluation::argmax(values) as u32,
        }
    }
}

/// An open conversion.
pub struct Engine {
    sessions: BTreeMap<PathBuf, Box<dyn Session>>,
    signatures: BTreeMap<(PathBuf, String), FunctionSignature>,
    meta: Meta,
    context: u64,
    batch: u64,
    head_sizes: Vec<u64>,
}

/// Which calls a pass makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Infer,
    Prefill,
    Evaluate,
}

impl Engine {
    /// Opens every package that meta.yaml names.
    pub fn open(meta: &Path, runtime: &dyn Runtime, host: &Host) -> Result<Self> {
        Self::open_meta(Meta::read(meta)?, runtime, host)
    }

    /// As [`Self::open`], of a meta.yaml that was read.
    pub fn open_meta(meta: Meta, runtime: &dyn Runtime, host: &Host) -> Result<Self> {
        let availability = runtime.check()?;
        if !availability.available {
            return Err(Error::new(codes::RUNTIME_UNAVAILABLE, availability.reason));
        }
        let mut engine = Self {
            sessions: BTreeMap::new(),
            signatures: BTreeMap::new(),
            meta,
            context: 0,
            batch: 0,
            head_sizes: Vec::new(),
        };
        let EvaluationPaths { infer, prefill, evaluate } = engine.meta.paths.clone();
        for step in infer.iter().chain(&prefill).chain(&evaluate) {
            engine.open_step(step, runtime, host)?;
        }
        (_, engine.context) = engine.mask(&infer, |tokens, _| tokens == 1)?;
        let context = engine.context;
        (engine.batch, _) = engine.mask(&prefill, |_, columns| columns == context)?;
        Ok(engine)
    }

    fn open_step(&mut self, step: &RunStep, runtime: &dyn Runtime, host: &Host) -> Result<()> {
        let path = self.meta.package(step)?;
        if !self.sessions.contains_key(&path) {
            let session = runtime.open(&path, host)?;
            let description = session.describe();
            if let Some(sizes) = description.metadata.get("com.anemll.lm_head_chunk_sizes") {
                self.head_sizes =
                    sizes.split(',').filter_map(|size| size.trim().parse().ok()).collect();
            }
            for signature in description.functions {
                self.signatures.insert((path.clone(), signature.name.clone()), signature);
            }
            self.sessions.insert(path.clone(), session);
        }
        if self.signatures.contains_key(&(path.clone(), step.function.clone())) {
            return Ok(());
        }
        Err(Error::new(
            codes::FUNCTION_UNKNOWN,
            format!("the package has no function `{}`", step.function),
        )
        .with_at(path.display().to_string())
        .with_hint("`anemll inspect` shows the functions of a package"))
    }

    fn signature(&self, step: &RunStep) -> Result<&FunctionSignature> {
        let path = self.meta.package(step)?;
        self.signatures.get(&(path, step.function.clone())).ok_or_else(|| {
            Error::new(codes::FUNCTION_UNKNOWN, format!("no function `{}`", step.function))
        })
    }

    /// Tokens and context of `causal_mask`, (1, 1, tokens, context), in the first step that has one.
    fn mask(&self, steps: &[RunStep], suits: impl Fn(u64, u64) -> bool) -> Result<(u64, u64)> {
        for step in steps {
            let signature = self.signature(step)?;
            let mask = signature.inputs.iter().find(|input| input.name == MASK);
            let Some([shape, ..]) = mask.map(|mask| mask.shapes.as_slice()) else { continue };
            return match shape[..] {
                [1, 1, tokens, context]
                    if (1..=LONGEST).contains(&context)
                        && (1..=context).contains(&tokens)
                        && tokens * context <= LARGEST_MASK
                        && suits(tokens, context) =>
                {
                    Ok((tokens, context))
                }
                _ => Err(self.unsuitable(step, shape)),
            };
        }
        Err(Error::new(
            codes::META_INVALID,
            "no function takes a `causal_mask` of shape (1, 1, tokens, context)",
        )
        .with_hint("the packages are not of an ANEMLL conversion"))
    }

    fn unsuitable(&self, step: &RunStep, shape: &[u64]) -> Error {
        Error::new(
            codes::ENGINE_INTERFACE,
            format!(
                "`{MASK}` of `{}` in {} has the shape {shape:?}, which does not suit the conversion",
                step.function, step.package
            ),
        )
        .with_at(self.meta.directory.display().to_string())
        .with_hint("the packages are damaged or of different conversions; convert the model again")
    }

    /// Context length in tokens.
    pub fn context(&self) -> u64 {
        self.context
    }

    /// Tokens that one call of prefill takes.
    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// Tokens that the model knows, as far as the head's pieces tell.
    pub fn vocabulary(&self) -> Option<u64> {
        let signature = self.signature(self.meta.paths.infer.last()?).ok()?;
        let columns = |output: &ValueInfo| output.shapes.first()?.last().copied();
        let logits = signature.outputs.iter().filter(|output| output.name.starts_with("logits"));
        let sizes: Vec<u64> = logits.map(columns).collect::<Option<_>>()?;
        let sizes = if sizes.is_empty() { &self.head_sizes } else { &sizes };
        let total = sizes.iter().try_fold(0_u64, |total, size| total.checked_add(*size))?;
        (total > 0).then_some(total)
    }

    /// Whether the head gives the largest logit only (`--argmax`).
    pub fn gives_largest(&self) -> bool {
        let head = self.meta.paths.infer.last().and_then(|step| self.signature(step).ok());
        head.is_some_and(|head| head.outputs.iter().any(|output| output.name == "argmax_idx"))
    }

    /// Empties every state.
    pub fn reset(&mut self) -> Result<()> {
        self.sessions.values_mut().try_for_each(|session| session.reset())
    }

    /// One token at `position` through `infer`.
    pub fn infer(&mut self, token: u32, position: u64) -> Result<Head> {
        let mut rows = self.pass(Pass::Infer, &[token], position, None)?;
        rows.pop().ok_or_else(no_rows)
    }

    /// Tokens from `position` on through `prefill`, a batch at a time; the last may be padded.
    pub fn prefill(&mut self, tokens: &[u32], position: u64) -> Result<()> {
        let mut position = position;
        for batch in tokens.chunks(self.batch as usize) {
            anemll_services::check_cancelled()?;
            self.pass(Pass::Prefill, batch, position, None)?;
            position += batch.len() as u64;
        }
        Ok(())
    }

    /// Up to one batch of tokens from `position` on through the evaluation functions: one row of
    /// logits for each.
    pub fn evaluate(&mut self, tokens: &[u32], position: u64) -> Result<Vec<Head>> {
        self.evaluate_observed(tokens, position, None)
    }

    /// As [`Self::evaluate`], with an observer of values inside of the packages.
    pub fn evaluate_observed(
        &mut self,
        tokens: &[u32],
        position: u64,
        observer: Option<&mut dyn Observer>,
    ) -> Result<Vec<Head>> {
        if self.meta.paths.evaluate.is_empty() {
            return Err(Error::new(
                codes::FUNCTION_UNKNOWN,
                "this conversion has no evaluation functions",
            )
            .with_at(self.meta.directory.join(PATHS).display().to_string())
            .with_hint("convert the model again, or take --path infer"));
        }
        self.pass(Pass::Evaluate, tokens, position, observer)
    }

    /// The packages and functions of an evaluation, in their order.
    ///
    /// # Errors
    /// A package that is not there.
    pub fn evaluation_functions(&self) -> Result<Vec<(PathBuf, String)>> {
        let steps = self.meta.paths.evaluate.iter();
        steps.map(|step| Ok((self.meta.package(step)?, step.function.clone()))).collect()
    }

    fn pass(
        &mut self,
        pass: Pass,
        tokens: &[u32],
        position: u64,
        mut observer: Option<&mut dyn Observer>,
    ) -> Result<Vec<Head>> {
        if position + tokens.len() as u64 > self.context {
            return Err(Error::new(
                codes::EVALUATION_INPUT,
                format!(
                    "{} tokens do not fit into the context of {}",
                    position + tokens.len() as u64,
                    self.context
                ),
            )
            .with_hint("give fewer tokens, or convert with a larger --context"));
        }
        let steps = match pass {
            Pass::Infer => self.meta.paths.infer.clone(),
            Pass::Prefill => self.meta.paths.prefill.clone(),
            Pass::Evaluate => self.meta.paths.evaluate.clone(),
        };
        let width = if pass == Pass::Infer { 1 } else { self.batch };
        let mut values = inputs(tokens, width, position, self.context);
        for step in &steps {
            // Reborrowed by hand: the shorter lifetime has to be that of the trait object, too.
            let observer = observer.as_mut().map(|observer| &mut **observer as &mut dyn Observer);
            self.step(step, &mut values, observer)?;
        }
        if pass == Pass::Prefill {
            return Ok(Vec::new());
        }
        let rows = head_rows(&values, width, &self.head_sizes)?;
        Ok(rows.into_iter().take(tokens.len()).collect())
    }

    fn step(
        &mut self,
        step: &RunStep,
        values: &mut BTreeMap<String, Tensor>,
        observer: Option<&mut dyn Observer>,
    ) -> Result<()> {
        let path = self.meta.package(step)?;
        let mut given = Vec::new();
        let signature = self.signature(step)?.clone();
        for input in &signature.inputs {
            let Some(tensor) = values.get(&input.name) else {
                return Err(Error::new(
                    codes::INPUT_INVALID,
                    format!(
                        "`{}` takes the input `{}`, which this program does not know",
                        step.function, input.name
                    ),
                )
                .with_at(path.display().to_string()));
            };
            given.push(tensor.view()?);
        }
        let session = self.sessions.get_mut(&path).ok_or_else(no_rows)?;
        let in_package = |error: Error| match error.is_cancelled() {
            true => error,
            false => error.with_cause(format!("in the package {}", path.display())),
        };
        let tensors = match observer {
            None => {
                let mut sink = MemorySink::new();
                session.run(&step.function, &given, &[], &mut sink).map_err(in_package)?;
                sink.into_tensors()?
            }
            Some(observer) => {
                let taps = observer.taps(&path, &step.function);
                let names: Vec<&str> = taps.iter().map(String::as_str).collect();
                let outputs = signature.outputs.iter().map(|output| output.name.as_str());
                let mut sink = ObservingSink::new(&step.function, observer, &taps, outputs);
                session.run(&step.function, &given, &names, &mut sink).map_err(in_package)?;
                sink.into_outputs()
            }
        };
        drop(given);
        for mut tensor in tensors {
            // One part's output is the next part's input.
            if tensor.name == "output_hidden_states" {
                tensor.name = "hidden_states".to_owned();
            }
            values.insert(tensor.name.clone(), tensor);
        }
        Ok(())
    }
}

fn no_rows() -> Error {
    Error::new(codes::META_INVALID, "the last package that meta.yaml names gives no logits")
        .with_hint("`anemll inspect` shows the outputs of a package; the head's are `logits1`, …")
}

/// The inputs that a host makes: tokens, positions, the causal mask.
fn inputs(tokens: &[u32], width: u64, position: u64, context: u64) -> BTreeMap<String, Tensor> {
    let count = width as usize;
    let ids: Vec<i32> =
        (0..count).map(|row| tokens.get(row).map_or(0, |token| *token as i32)).collect();
    let positions: Vec<i32> = (0..count).map(|row| position as i32 + row as i32).collect();
    let mut mask = vec![f16::NEG_INFINITY; count * context as usize];
    for (row, columns) in mask.chunks_exact_mut(context as usize).enumerate() {
        let visible = columns.len().min(position as usize + row + 1);
        columns[..visible].fill(f16::ZERO);
    }
    let tensor = |name: &str, dtype, shape: &[u64], bytes: &[u8]| {
        let tensor =
            Tensor { name: name.to_owned(), dtype, shape: shape.to_vec(), bytes: bytes.to_vec() };
        (name.to_owned(), tensor)
    };
    BTreeMap::from([
        tensor("input_ids", DType::INT32, &[1, width], bytemuck::cast_slice(&ids)),
        tensor("position_ids", DType::INT32, &[width], bytemuck::cast_slice(&positions)),
        tensor("current_pos", DType::INT32, &[1], bytemuck::cast_slice(&positions[..1])),
        tensor("causal_mask", DType::FLOAT16, &[1, 1, width, context], bytemuck::cast_slice(&mask)),
    ])
}

/// `logits1`, `logits2`, … put together row by row, or the argmax pair.
fn head_rows(
    values: &BTreeMap<String, Tensor>,
    width: u64,
    head_sizes: &[u64],
) -> Result<Vec<Head>> {
    if let (Some(indices), Some(largest)) = (values.get("argmax_idx"), values.get("argmax_val")) {
        return largest_of_pieces(indices, largest, head_sizes).map(|head| vec![head]);
    }
    let mut pieces = Vec::new();
    for number in 1.. {
        match values
            .get(&format!("logits{number}"))
            .or_else(|| values.get("logits").filter(|_| number == 1))
        {
            Some(tensor) => pieces.push(tensor.floats()?),
            None => break,
        }
    }
    if pieces.is_empty() {
        return Err(no_rows());
    }
    let rows = width as usize;
    Ok((0..rows)
        .map(|row| {
            let mut logits = Vec::new();
            for piece in &pieces {
                let columns = piece.len() / rows;
                logits.extend_from_slice(&piece[row * columns..(row + 1) * columns]);
            }
            Head::Logits(logits)
        })
        .collect())
}

/// The index of a piece counts from the piece's first row.
fn largest_of_pieces(indices: &Tensor, largest: &Tensor, sizes: &[u64]) -> Result<Head> {
    let indices = indices.integers()?;
    let largest = largest.floats()?;
    if sizes.len() != indices.len() || largest.len() != indices.len() {
        return Err(Error::new(
            codes::META_INVALID,
            format!(
                "the head gives {} indices, but its metadata has the sizes of {} pieces",
                indices.len(),
                sizes.len()
            ),
        )
        .with_at("com.anemll.lm_head_chunk_sizes"));
    }
    let mut best: Option<(u32, f32)> = None;
    let mut offset = 0;
    for ((index, value), size) in indices.iter().zip(&largest).zip(sizes) {
        let token = u64::try_from(*index).ok().filter(|index| index < size);
        let token = token.and_then(|index| u32::try_from(index.checked_add(offset)?).ok());
        let Some(token) = token else {
            return Err(Error::new(
                codes::META_INVALID,
                format!("the head gives the index {index} in a piece of {size} tokens"),
            )
            .with_at("com.anemll.lm_head_chunk_sizes"));
        };
        if best.is_none_or(|(_, known)| *value > known) {
            best = Some((token, *value));
        }
        offset = offset.saturating_add(*size);
    }
    best.map(|(token, value)| Head::Largest(token, value)).ok_or_else(no_rows)
}

/// Reading a tensor's elements.
trait Elements {
    fn floats(&self) -> Result<Vec<f32>>;
    fn integers(&self) -> Result<Vec<i64>>;
}

impl Elements for Tensor {
    fn floats(&self) -> Result<Vec<f32>> {
        match self.dtype {
            DType::FLOAT16 => Ok(self
                .bytes
                .chunks_exact(2)
                .map(|bytes| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32())
                .collect()),
            DType::FLOAT32 => Ok(self
                .bytes
                .chunks_exact(4)
                .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
                .collect()),
            other => Err(wrong_type(self, other)),
        }
    }

    fn integers(&self) -> Result<Vec<i64>> {
        match self.dtype {
            DType::INT32 => Ok(self
                .bytes
                .chunks_exact(4)
                .map(|bytes| {
                    i64::from(i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
                })
                .collect()),
            other => Err(wrong_type(self, other)),
        }
    }
}

fn wrong_type(tensor: &Tensor, dtype: DType) -> Error {
    Error::new(
        codes::RUN_FAILED,
        format!("the output `{}` has the unexpected type {}", tensor.name, dtype.name()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_opens_columns_up_to_the_position() {
        let values = inputs(&[5, 6], 3, 2, 8);
        let mask = values["causal_mask"].floats().unwrap();
        let open: Vec<usize> =
            mask.chunks(8).map(|row| row.iter().filter(|value| **value == 0.0).count()).collect();
        assert_eq!(open, [3, 4, 5]);
        assert_eq!(values["input_ids"].integers().unwrap(), [5, 6, 0]);
        assert_eq!(values["position_ids"].integers().unwrap(), [2, 3, 4]);
    }

    #[test]
    fn pieces_of_the_head_are_put_together_in_order() {
        let piece = |name: &str, values: &[f32]| {
            let bytes: Vec<u8> =
                values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
            let shape = vec![1, 2, values.len() as u64 / 2];
            (name.to_owned(), Tensor { name: name.to_owned(), dtype: DType::FLOAT16, shape, bytes })
        };
        let values = BTreeMap::from([
            piece("logits1", &[1.0, 2.0, 3.0, 4.0]),
            piece("logits2", &[5.0, 6.0]),
        ]);
        let rows = head_rows(&values, 2, &[]).unwrap();
        let Head::Logits(second) = &rows[1] else { panic!("logits are expected") };
        assert_eq!(second, &[3.0, 4.0, 6.0]);
    }

    #[test]
    fn an_index_outside_of_its_piece_is_an_error() {
        for index in [-1_i32, 10, i32::MIN] {
            let tensor = |name: &str, dtype, bytes: &[u8]| Tensor {
                name: name.to_owned(),
                dtype,
                shape: vec![1],
                bytes: bytes.to_vec(),
            };
            let indices = tensor("argmax_idx", DType::INT32, &index.to_le_bytes());
            let largest = tensor("argmax_val", DType::FLOAT16, &f16::ONE.to_le_bytes());
            assert!(largest_of_pieces(&indices, &largest, &[10]).is_err(), "{index}");
            assert!(largest_of_pieces(&indices, &largest, &[u64::MAX]).is_ok() == (index == 10));
        }
    }

    #[test]
    fn the_winner_of_a_later_piece_counts_from_its_first_row() {
        let indices = Tensor {
            name: "argmax_idx".to_owned(),
            dtype: DType::INT32,
            shape: vec![2],
            bytes: [3_i32, 1].iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        let largest = Tensor {
            name: "argmax_val".to_owned(),
            dtype: DType::FLOAT16,
            shape: vec![2],
            bytes: [1.0, 2.0]
                .iter()
                .flat_map(|value| f16::from_f32(*value).to_le_bytes())
                .collect(),
        };
        assert_eq!(largest_of_pieces(&indices, &largest, &[10, 6]).unwrap().best(), 11);
        assert!(largest_of_pieces(&indices, &largest, &[16]).is_err());
    }
}
