//! Running a conversion: its packages, called in the order that its description gives.
//!
//! How functions are driven (ANEMLL's contract): the causal mask is 0 where the column is
//! at most the row's position and minus infinity elsewhere; prefill takes full batches from
//! `current_pos` on; a last batch that is not full is padded here, which changes nothing that is
//! read later, since every padded row of the cache is masked until a real token overwrites it.
//! States that tokens replace (short convolutions) would keep the padding, so with such a state the
//! tokens of a batch that is not full go one by one, as the apps have them do, and a batch of an
//! evaluation ends its text where it is padded. A ring of the last positions has room for a padded
//! batch beside what the next token sees; what tokens see further back may be overwritten, and going back
//! there is refused.

use crate::continuity::Continuity;
use crate::head::{head_rows, largest_of_pieces, no_rows};
use crate::observation::{Observer, ObservingSink};

use anemll_codes as codes;
use anemll_conversion::{Conversion, Description, FILE, InputNames, LargestNames};
use anemll_layout::anemll;
use anemll_plugin_api::data::{FunctionSignature, RunStep};
use anemll_plugin_api::{DType, Error, Host, MemorySink, Result, Runtime, Session, Tensor};
use half::f16;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use crate::head::Head;

/// More tokens of context than any model has.
const LONGEST: u64 = 1 << 22;
/// Elements of the largest mask, which is made anew for every call.
const LARGEST_MASK: u64 = 1 << 29;

/// An open conversion.
pub struct Engine {
    /// One for each package.
    sessions: Vec<Box<dyn Session>>,
    infer: Vec<Call>,
    prefill: Vec<Call>,
    verify: Vec<Call>,
    evaluate: Vec<Call>,
    conversion: Conversion,
    context: u64,
    batch: u64,
    /// Tokens that `verify` takes; 0 without it.
    verify_length: u64,
    /// Tokens of each piece of the head.
    head_sizes: Vec<u64>,
    /// Where tokens can go on, as the states have it.
    continuity: Continuity,
}

/// A function as it is called; all of it was found when the conversion was opened.
pub(crate) struct Call {
    /// Of the package, among the sessions.
    pub(crate) session: usize,
    path: PathBuf,
    pub(crate) signature: FunctionSignature,
}

/// Which calls a pass makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Infer,
    Prefill,
    Verify,
    Evaluate,
}

/// Packages while they are opened.
pub(crate) struct Opening<'a> {
    conversion: &'a Conversion,
    runtime: &'a dyn Runtime,
    host: &'a Host,
    sessions: Vec<Box<dyn Session>>,
    /// Of each package: its place in `sessions`, where it is, and its functions.
    packages: BTreeMap<&'a str, (usize, PathBuf, Vec<FunctionSignature>)>,
    head_sizes: Vec<u64>,
}

impl<'a> Opening<'a> {
    pub(crate) fn new(
        conversion: &'a Conversion,
        runtime: &'a dyn Runtime,
        host: &'a Host,
    ) -> Self {
        Self {
            conversion,
            runtime,
            host,
            sessions: Vec::new(),
            packages: BTreeMap::new(),
            head_sizes: Vec::new(),
        }
    }

    /// The packages that were opened.
    pub(crate) fn into_sessions(self) -> Vec<Box<dyn Session>> {
        self.sessions
    }

    pub(crate) fn calls(&mut self, steps: &'a [RunStep]) -> Result<Vec<Call>> {
        steps.iter().map(|step| self.call(step)).collect()
    }

    fn call(&mut self, step: &'a RunStep) -> Result<Call> {
        if !self.packages.contains_key(&*step.package) {
            let path = self.conversion.package(&step.package)?;
            let session = self.runtime.open(&path, self.host)?;
            let description = session.describe();
            if let Some(sizes) = description.metadata.get(anemll::HEAD_SIZES) {
                self.head_sizes = anemll::head_sizes(sizes);
            }
            let opened = (self.sessions.len(), path, description.functions);
            self.packages.insert(&step.package, opened);
            self.sessions.push(session);
        }
        let (session, path, functions) = &self.packages[&*step.package];
        let signature = functions.iter().find(|function| function.name == step.function);
        let signature = signature.ok_or_else(|| {
            Error::new(
                codes::FUNCTION_UNKNOWN,
                format!("the package has no function `{}`", step.function),
            )
            .with_at(path.display().to_string())
            .with_hint("`anemll inspect` shows the functions of a package")
        })?;
        Ok(Call { session: *session, path: path.clone(), signature: signature.clone() })
    }
}

impl Engine {
    /// Opens every package of the conversion that a meta.yaml is of.
    pub fn open(meta: &Path, runtime: &dyn Runtime, host: &Host) -> Result<Self> {
        Self::open_conversion(Conversion::read(meta)?, runtime, host)
    }

    /// As [`Self::open`], of a conversion that was read. All that is needed of the file system is
    /// asked here, and not again at every token.
    pub fn open_conversion(
        conversion: Conversion,
        runtime: &dyn Runtime,
        host: &Host,
    ) -> Result<Self> {
        let availability = runtime.check()?;
        if !availability.available {
            return Err(Error::new(codes::RUNTIME_UNAVAILABLE, availability.reason));
        }
        if conversion.description.embedding.is_some() {
            return Err(Error::new(
                codes::CONVERSION_KIND,
                "this conversion gives vectors of texts, no logits",
            )
            .with_at(conversion.source().display().to_string())
            .with_hint("use `anemll embed`, or convert the model with --task generate"));
        }
        let mut opening = Opening::new(&conversion, runtime, host);
        let run = &conversion.description.run;
        let infer = opening.calls(&run.infer)?;
        let prefill = opening.calls(&run.prefill)?;
        let verify = opening.calls(&run.verify)?;
        let evaluate = opening.calls(&run.evaluate)?;
        let Opening { sessions, head_sizes, .. } = opening;
        let head_sizes = match &conversion.description.head.sizes {
            sizes if sizes.is_empty() => head_sizes,
            sizes => sizes.clone(),
        };
        let calls = infer.iter().chain(&prefill).chain(&verify).chain(&evaluate);
        let recurrent = is_recurrent(&conversion.description, calls);
        let rings = conversion.description.rings.values().copied();
        let continuity = Continuity::new(recurrent, rings);
        let mut engine = Self {
            sessions,
            infer,
            prefill,
            verify,
            evaluate,
            conversion,
            context: 0,
            batch: 0,
            verify_length: 0,
            head_sizes,
            continuity,
        };
        let said = &engine.conversion.description;
        let (context, batch) = (said.context, said.batch);
        let is = |said: Option<u64>, found| said.is_none_or(|said| said == found);
        let suits = |tokens, columns| tokens == 1 && is(context, columns);
        (_, engine.context) = mask(&engine.conversion, &engine.infer, suits)?;
        let columns = engine.context;
        let suits = |tokens, found| found == columns && is(batch, tokens);
        // Without prefill, a batch is what evaluation takes.
        let batched = if engine.prefill.is_empty() { &engine.evaluate } else { &engine.prefill };
        engine.batch = match batched.is_empty() {
            true => 1,
            false => mask(&engine.conversion, batched, suits)?.0,
        };
        // What tokens replace cannot be taken back where a guess was wrong.
        if !engine.verify.is_empty() && !recurrent {
            let suits = |tokens, found| found == columns && tokens > 1;
            engine.verify_length = mask(&engine.conversion, &engine.verify, suits)?.0;
        }
        Ok(engine)
    }

    /// What is run.
    pub fn conversion(&self) -> &Conversion {
        &self.conversion
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
        let outputs = &self.infer.last()?.signature.outputs;
        let logits = self.logits(self.infer.last()?);
        let columns = |name: &String| {
            outputs.iter().find(|output| output.name == *name)?.shapes.first()?.last().copied()
        };
        let sizes: Vec<u64> = logits.iter().map(columns).collect::<Option<_>>()?;
        let sizes = if sizes.is_empty() { &self.head_sizes } else { &sizes };
        let total = sizes.iter().try_fold(0_u64, |total, size| total.checked_add(*size))?;
        (total > 0).then_some(total)
    }

    /// The outputs of a call that are logits: those that the description names, or, where it names
    /// none, those that are called so.
    fn logits(&self, call: &Call) -> Vec<String> {
        let outputs = || call.signature.outputs.iter().map(|output| output.name.as_str());
        let named = &self.conversion.description.head.logits;
        if named.is_empty() {
            return anemll::logits(outputs());
        }
        named.iter().filter(|name| outputs().any(|output| output == *name)).cloned().collect()
    }

    /// The outputs of a call that are the largest logits, where it gives those.
    fn largest(&self, call: &Call) -> Option<&LargestNames> {
        let names = self.conversion.description.head.largest.as_ref()?;
        let gives =
            |name: &String| call.signature.outputs.iter().any(|output| output.name == *name);
        (gives(&names.index) && gives(&names.value)).then_some(names)
    }

    /// Whether the head gives the largest logit only (`--argmax`).
    pub fn gives_largest(&self) -> bool {
        self.infer.last().is_some_and(|call| self.largest(call).is_some())
    }

    /// Whether there are states that tokens replace: then tokens can only go on where the last ones
    /// ended, or start anew at position 0, which empties these states.
    pub fn is_recurrent(&self) -> bool {
        self.continuity.is_recurrent()
    }

    /// Whether tokens can be run from this position on, of which those before it were run: whether all
    /// states have what is seen from there.
    pub fn goes_on_at(&self, position: u64) -> bool {
        self.continuity.allows(position)
    }

    /// Empties every state.
    pub fn reset(&mut self) -> Result<()> {
        self.continuity.reset();
        self.sessions.iter_mut().try_for_each(|session| session.reset())
    }

    /// One token at `position` through `infer`.
    pub fn infer(&mut self, token: u32, position: u64) -> Result<Head> {
        let mut rows = self.pass(Pass::Infer, &[token], position, None)?;
        rows.pop().ok_or_else(no_rows)
    }

    /// Whether a batch of `prefill` from this position on may be padded.
    pub fn pads_at(&self, position: u64) -> bool {
        !self.prefill.is_empty() && !self.is_recurrent() && position + self.batch <= self.context
    }

    /// Runs every kind of call once, and empties the states again: all that is read of the packages at
    /// their first use was read then, whatever becomes of their files.
    ///
    /// # Errors
    /// Those of the runtime.
    pub fn warm_up(&mut self) -> Result<()> {
        for pass in [Pass::Infer, Pass::Prefill, Pass::Verify] {
            if !self.calls(pass).is_empty() && self.width(pass) > 0 {
                self.values(pass, &[0], 0, None)?;
            }
        }
        self.reset()
    }

    /// Tokens from `position` on through `prefill`, a batch at a time; the last may be padded, or
    /// with states that tokens replace goes token by token through `infer`. Without functions for
    /// it, all do.
    pub fn prefill(&mut self, tokens: &[u32], position: u64) -> Result<()> {
        let mut position = position;
        let batch = self.batch as usize;
        let batched = match (self.prefill.is_empty(), self.is_recurrent()) {
            (true, _) => 0,
            (false, true) => tokens.len() / batch * batch,
            (false, false) => tokens.len(),
        };
        let (batched, single) = tokens.split_at(batched);
        for batch in batched.chunks(batch) {
            anemll_services::check_cancelled()?;
            self.values(Pass::Prefill, batch, position, None)?;
            position += batch.len() as u64;
        }
        for token in single {
            anemll_services::check_cancelled()?;
            self.infer(*token, position)?;
            position += 1;
        }
        Ok(())
    }

    /// Up to one batch of tokens from `position` on through the evaluation functions: one row of
    /// logits for each.
    pub fn evaluate(&mut self, tokens: &[u32], position: u64) -> Result<Vec<Head>> {
        self.check_evaluates()?;
        self.pass(Pass::Evaluate, tokens, position, None)
    }

    /// As [`Self::evaluate`], with an observer of values inside of the packages.
    pub fn evaluate_observed(
        &mut self,
        tokens: &[u32],
        position: u64,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Head>> {
        self.check_evaluates()?;
        self.pass(Pass::Evaluate, tokens, position, Some(observer))
    }

    /// As [`Self::evaluate_observed`], where nobody looks at the logits.
    pub fn observe(
        &mut self,
        tokens: &[u32],
        position: u64,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        self.check_evaluates()?;
        self.values(Pass::Evaluate, tokens, position, Some(observer)).map(drop)
    }

    fn check_evaluates(&self) -> Result<()> {
        if self.evaluate.is_empty() {
            return Err(Error::new(
                codes::FUNCTION_UNKNOWN,
                "this conversion has no evaluation functions",
            )
            .with_at(self.conversion.directory.join(FILE).display().to_string())
            .with_hint("convert the model again, or take --path infer"));
        }
        Ok(())
    }

    /// How many tokens [`Self::verify`] takes at once from `position` on; 0 where it cannot be called there.
    pub fn verifies(&self, position: u64) -> usize {
        let fits = position + self.verify_length <= self.context;
        if fits { self.verify_length as usize } else { 0 }
    }

    /// Tokens from `position` on, no more than [`Self::verifies`], through the functions that verify
    /// guesses: a row of logits for each. Going back to any of them is possible afterwards.
    ///
    /// # Errors
    /// The conversion has no such functions; those of the runtime.
    pub fn verify(&mut self, tokens: &[u32], position: u64) -> Result<Vec<Head>> {
        if tokens.len() > self.verifies(position) {
            return Err(Error::new(
                codes::FUNCTION_UNKNOWN,
                format!(
                    "{} tokens at position {position} cannot be verified at once",
                    tokens.len()
                ),
            )
            .with_at(self.conversion.directory.join(FILE).display().to_string())
            .with_hint("convert the model again with --verify"));
        }
        self.pass(Pass::Verify, tokens, position, None)
    }

    /// The packages and functions of an evaluation, in their order.
    pub fn evaluation_functions(&self) -> Vec<(PathBuf, String)> {
        let calls = self.evaluate.iter();
        calls.map(|call| (call.path.clone(), call.signature.name.clone())).collect()
    }

    fn calls(&self, pass: Pass) -> &[Call] {
        match pass {
            Pass::Infer => &self.infer,
            Pass::Prefill => &self.prefill,
            Pass::Verify => &self.verify,
            Pass::Evaluate => &self.evaluate,
        }
    }

    /// Tokens that one call of a function takes.
    fn width(&self, pass: Pass) -> u64 {
        match pass {
            Pass::Infer => 1,
            Pass::Verify => self.verify_length,
            Pass::Prefill | Pass::Evaluate => self.batch,
        }
    }

    /// Runs tokens, and gives a row of logits for each.
    fn pass(
        &mut self,
        pass: Pass,
        tokens: &[u32],
        position: u64,
        observer: Option<&mut dyn Observer>,
    ) -> Result<Vec<Head>> {
        let values = self.values(pass, tokens, position, observer)?;
        let last = self.calls(pass).last().ok_or_else(no_rows)?;
        let rows = match self.largest(last) {
            Some(names) => match (values.get(&names.index), values.get(&names.value)) {
                (Some(indices), Some(largest)) => {
                    vec![largest_of_pieces(indices, largest, &self.head_sizes)?]
                }
                _ => return Err(no_rows()),
            },
            None => head_rows(&values, self.width(pass), &self.logits(last))?,
        };
        Ok(rows.into_iter().take(tokens.len()).collect())
    }

    /// Runs tokens, and gives all values that the functions gave and took.
    fn values(
        &mut self,
        pass: Pass,
        tokens: &[u32],
        position: u64,
        mut observer: Option<&mut dyn Observer>,
    ) -> Result<BTreeMap<String, Tensor>> {
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
        self.continuity.check(position)?;
        let width = self.width(pass);
        self.continuity.begin(position, position + width);
        let calls = match pass {
            Pass::Infer => &self.infer,
            Pass::Prefill => &self.prefill,
            Pass::Verify => &self.verify,
            Pass::Evaluate => &self.evaluate,
        };
        let description = &self.conversion.description;
        let mut values = inputs(&description.inputs, tokens, width, position, self.context);
        for call in calls {
            // Reborrowed by hand: the shorter lifetime has to be that of the trait object, too.
            let observer = observer.as_mut().map(|observer| &mut **observer as &mut dyn Observer);
            let session = self.sessions.get_mut(call.session).ok_or_else(no_rows)?;
            step(session.as_mut(), call, &description.run.feeds, &mut values, observer)?;
        }
        let end = position + tokens.len() as u64;
        self.continuity.finish((tokens.len() as u64 == width).then_some(end));
        Ok(values)
    }
}

/// Tokens and context of the mask, (1, 1, tokens, context), in the first call that has one.
fn mask(
    conversion: &Conversion,
    calls: &[Call],
    suits: impl Fn(u64, u64) -> bool,
) -> Result<(u64, u64)> {
    let name = &conversion.description.inputs.mask;
    for call in calls {
        let mask = call.signature.inputs.iter().find(|input| input.name == *name);
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
            _ => Err(unsuitable(conversion, call, shape)),
        };
    }
    Err(Error::new(
        codes::META_INVALID,
        format!("no function takes a `{name}` of shape (1, 1, tokens, context)"),
    )
    .with_hint("the packages are not of an ANEMLL conversion"))
}

/// As [`mask`], where it has to be what the description says.
pub(crate) fn mask_of(conversion: &Conversion, calls: &[Call]) -> Result<(u64, u64)> {
    let (context, batch) = (conversion.description.context, conversion.description.batch);
    let is = |said: Option<u64>, found| said.is_none_or(|said| said == found);
    mask(conversion, calls, |tokens, columns| is(batch, tokens) && is(context, columns))
}

fn unsuitable(conversion: &Conversion, call: &Call, shape: &[u64]) -> Error {
    let package = call.path.file_stem().unwrap_or_default().to_string_lossy();
    Error::new(
        codes::ENGINE_INTERFACE,
        format!(
            "`{}` of `{}` in {package} has the shape {shape:?}, which does not suit the conversion",
            conversion.description.inputs.mask, call.signature.name
        ),
    )
    .with_at(conversion.directory.display().to_string())
    .with_hint("the packages are damaged or of different conversions; convert the model again")
}

/// Whether there are states that tokens replace. Where the description does not know of any states,
/// those that are no cache of keys and values by their names count.
fn is_recurrent<'a>(description: &Description, calls: impl Iterator<Item = &'a Call>) -> bool {
    let states = calls.flat_map(|call| &call.signature.states);
    let known = !description.states.is_empty();
    let mut others = states.filter(|state| !known && !anemll::is_cache(&state.name));
    !description.recurrent.is_empty() || others.next().is_some()
}

/// Calls a function with the values that it takes, and adds to them what it gives.
pub(crate) fn step(
    session: &mut dyn Session,
    call: &Call,
    feeds: &BTreeMap<String, String>,
    values: &mut BTreeMap<String, Tensor>,
    observer: Option<&mut dyn Observer>,
) -> Result<()> {
    let Call { path, signature, .. } = call;
    let function = &signature.name;
    let mut given = Vec::new();
    for input in &signature.inputs {
        let Some(tensor) = values.get(&input.name) else {
            return Err(Error::new(
                codes::INPUT_INVALID,
                format!(
                    "`{function}` takes the input `{}`, which this program does not know",
                    input.name
                ),
            )
            .with_at(path.display().to_string()));
        };
        given.push(tensor.view()?);
    }
    let in_package = |error: Error| match error.is_cancelled() {
        true => error,
        false => error.with_cause(format!("in the package {}", path.display())),
    };
    let tensors = match observer {
        None => {
            let mut sink = MemorySink::new();
            session.run(function, &given, &[], &mut sink).map_err(in_package)?;
            sink.into_tensors()?
        }
        Some(observer) => {
            let taps = observer.taps(path, function);
            let names: Vec<&str> = taps.iter().map(String::as_str).collect();
            let outputs = signature.outputs.iter().map(|output| output.name.as_str());
            let mut sink = ObservingSink::new((path, function), observer, &taps, outputs);
            session.run(function, &given, &names, &mut sink).map_err(in_package)?;
            sink.into_outputs()
        }
    };
    drop(given);
    for mut tensor in tensors {
        // One part's output is the next part's input.
        if let Some(input) = feeds.get(&tensor.name) {
            tensor.name.clone_from(input);
        }
        values.insert(tensor.name.clone(), tensor);
    }
    Ok(())
}

/// The inputs that a host makes: tokens, positions, the causal mask.
pub(crate) fn inputs(
    names: &InputNames,
    tokens: &[u32],
    width: u64,
    position: u64,
    context: u64,
) -> BTreeMap<String, Tensor> {
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
        tensor(&names.tokens, DType::INT32, &[1, width], bytemuck::cast_slice(&ids)),
        tensor(&names.positions, DType::INT32, &[width], bytemuck::cast_slice(&positions)),
        tensor(&names.position, DType::INT32, &[1], bytemuck::cast_slice(&positions[..1])),
        tensor(&names.mask, DType::FLOAT16, &[1, 1, width, context], bytemuck::cast_slice(&mask)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Elements as _;

    #[test]
    fn the_mask_opens_columns_up_to_the_position() {
        let values = inputs(&InputNames::default(), &[5, 6], 3, 2, 8);
        let mask = values["causal_mask"].floats().unwrap();
        let open: Vec<usize> =
            mask.chunks(8).map(|row| row.iter().filter(|value| **value == 0.0).count()).collect();
        assert_eq!(open, [3, 4, 5]);
        assert_eq!(values["input_ids"].integers().unwrap(), [5, 6, 0]);
        assert_eq!(values["position_ids"].integers().unwrap(), [2, 3, 4]);
    }
}
