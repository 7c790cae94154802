//! Calibration: a text run through a model as it is, and statistics of the weights' inputs written.

use crate::event::Event;
use crate::model_files::TOKENIZER;
use crate::original::{Original, OriginalRequest};
use crate::plugins::Plugins;
use anemll_calibration::{
    Calibration, Corpus, Counting, Judge, Kind, Piece, Progress, Provenance, Taps,
    calibrate as run, kept, needed, passes, refuse_unwritable,
};
use anemll_codes as codes;
use anemll_generation::chat_template;
use anemll_generation::engine::Engine;
use anemll_generation::generation::Generator;
use anemll_generation::sampling::{Sampler, Sampling};
use anemll_plugin_api::{Error, Host, Result};
use anemll_services::{check_cancelled, machine};
use anemll_tokenizer::Tokenizer;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of sums where nothing is said and the machine does not tell its memory.
const MEMORY: u64 = 2_000_000_000;
/// Most runs of the text for products that nobody has asked for by name.
const MOST_PASSES: usize = 6;
/// Most tokens of an answer that the model writes itself.
const ANSWER: u64 = 160;

/// A calibration as it is asked for.
#[derive(Debug, Clone)]
pub struct CalibrateRequest {
    /// The model and how it is run.
    pub original: OriginalRequest,
    /// Texts; the built-in one when there are none.
    pub texts: Vec<PathBuf>,
    /// Whether the texts are what users say: they go through the model's chat template.
    pub chat: bool,
    /// Whether the built-in text is run beside them.
    pub built_in: bool,
    /// Most tokens; with none of them, there is a judge and no more.
    pub tokens: u64,
    /// What is added up.
    pub kind: Kind,
    /// How tokens count.
    pub counting: Counting,
    /// Built-in questions that the model answers itself, as a part of the text.
    pub own_answers: usize,
    /// Bytes of memory that the sums may take; half of what is free when absent.
    pub memory: Option<u64>,
    /// Whether squares are taken where products would take too many runs of the text, or more than
    /// memory and disk have; else the one is said, and the other an error.
    pub squares_where_products_are_too_large: bool,
    /// How often what was added up is kept on disk: a run that is stopped goes on from there.
    pub checkpoint: Duration,
    /// The file of statistics.
    pub output: PathBuf,
}

/// What a calibration came to.
#[derive(Debug, Clone)]
pub struct Calibrated {
    /// What the statistics are of.
    pub provenance: Provenance,
    /// Tokens that the texts have.
    pub available: u64,
    /// Seconds that the text took.
    pub seconds: f64,
}

/// Bytes of sums that fit.
pub fn memory(asked: Option<u64>) -> u64 {
    asked.unwrap_or_else(|| {
        machine::memory().and_then(|memory| memory.available).map_or(MEMORY, |free| free / 2)
    })
}

/// Calibrates a model.
///
/// # Errors
/// The model has no tokenizer; texts that cannot be used; those of a conversion and of the runtime;
/// the file cannot be written.
pub fn calibrate(
    request: &CalibrateRequest,
    plugins: &Plugins,
    host: &Host,
    show: &dyn Fn(&Event<'_>),
) -> Result<Calibrated> {
    let tokenizer = tokenizer(&request.original.model)?;
    refuse_unwritable(&request.output)?;
    let context = usize::try_from(request.original.context).unwrap_or(usize::MAX);
    let tokens = usize::try_from(request.tokens).unwrap_or(usize::MAX);
    // What can be wrong with a text is told before the model is run.
    let mut corpus = corpus(request, &tokenizer, &[], tokens, context)?;
    let mut original = Original::open(&request.original, plugins, host, show)?;
    if request.own_answers > 0 {
        let pieces;
        (original.engine, pieces) =
            own_answers(original.engine, &tokenizer, request.own_answers, show)?;
        corpus = self::corpus(request, &tokenizer, &pieces, tokens, context)?;
    }
    let held_out = Corpus::judged(&tokenizer, context)?;
    for window in corpus.windows().iter().chain(held_out.windows()) {
        anemll_generation::perplexity::check_vocabulary(&original.engine, window)?;
    }
    let judge = judge(&mut original.engine, &held_out, show)?;
    let taps = original.taps(request.counting)?;
    let memory = memory(request.memory);
    let kind = kind(request, &taps, memory, show)?;
    let started = std::time::Instant::now();
    let calibration = Calibration {
        corpus: &corpus,
        taps: &taps,
        kind,
        judge: Some(&judge),
        source_sha256: &original.source_sha256,
        memory,
        checkpoint: request.checkpoint,
        output: &request.output,
    };
    let provenance = run(&mut original.engine, &calibration, &|Progress { done, total }| {
        show(&Event::Measure { what: "calibrating", unit: "tokens", done, total });
    })?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(Calibrated { provenance, available: corpus.available() as u64, seconds })
}

/// Products of every two inputs, where there is room and time for them.
pub(crate) struct Products<'a> {
    pub(crate) taps: &'a Taps,
    /// Bytes that may be taken at once.
    pub(crate) memory: u64,
    /// The file that they go to.
    pub(crate) output: &'a Path,
}

impl Products<'_> {
    fn needed(&self) -> u64 {
        needed(self.taps, Kind::Products)
    }

    /// Bytes of disk that are free, where those are fewer than passes and the file need.
    fn short_of_disk(&self) -> Option<u64> {
        let free = machine::free_space(self.output)?;
        too_few(free, kept(self.output), room(self.needed()))
    }

    /// Says how often the text is run for them.
    fn tell(&self, passes: usize, show: &dyn Fn(&Event<'_>)) {
        let text = format!(
            "the products of every two inputs take {}, more than the {} of memory: the text is run {passes} \
             times, each time for some of the layers",
            anemll_files::size(self.needed()),
            anemll_files::size(self.memory)
        );
        show(&Event::Note { text: &text });
    }

    /// Why nobody would wait for them who has not asked for them by name; says how often the text is
    /// run where they can be made.
    pub(crate) fn refused(&self, show: &dyn Fn(&Event<'_>)) -> Option<String> {
        let (needed, size) = (self.needed(), anemll_files::size);
        if needed <= self.memory {
            return None;
        }
        let why = match passes(self.taps, Kind::Products, self.memory) {
            Err(_) => format!("one layer's more than the {} of memory", size(self.memory)),
            Ok(passes) if passes > MOST_PASSES => {
                format!("and the text would be run {passes} times for them")
            }
            Ok(passes) => match self.short_of_disk() {
                Some(free) => format!("twice that on disk, where {} are free", size(free)),
                None => {
                    self.tell(passes, show);
                    return None;
                }
            },
        };
        Some(format!("the products of every two inputs take {}, {why}", size(needed)))
    }
}

/// What passes keep, and the file itself.
fn room(needed: u64) -> u64 {
    needed.saturating_mul(2)
}

/// Bytes of `free` disk, where those and what is `kept` already are fewer than `room`.
fn too_few(free: u64, kept: u64, room: u64) -> Option<u64> {
    (free.saturating_add(kept) < room).then_some(free)
}

/// What is added up: what is asked for, or squares where products are too large. Says what products
/// take, where that is more than memory has at once.
fn kind(
    request: &CalibrateRequest,
    taps: &Taps,
    memory: u64,
    show: &dyn Fn(&Event<'_>),
) -> Result<Kind> {
    let products = Products { taps, memory, output: &request.output };
    if request.kind == Kind::Squares || request.tokens == 0 || products.needed() <= memory {
        return Ok(request.kind);
    }
    if request.squares_where_products_are_too_large {
        let Some(why) = products.refused(show) else { return Ok(request.kind) };
        let text = format!(
            "{why}: only their squares are used; to use the products anyway, run \
             `anemll calibrate --hessian` and give its file with --calibration"
        );
        show(&Event::Note { text: &text });
        return Ok(Kind::Squares);
    }
    let passes = passes(taps, request.kind, memory)?;
    if let Some(free) = products.short_of_disk() {
        return Err(Error::new(
            codes::OUTPUT_UNWRITABLE,
            format!(
                "the products of every two inputs take {} on disk while they are made, and {} are free",
                anemll_files::size(room(products.needed())),
                anemll_files::size(free)
            ),
        )
        .with_at(request.output.display().to_string())
        .with_hint("free some space, name a file on another disk, or leave --hessian out"));
    }
    products.tell(passes, show);
    Ok(request.kind)
}

/// The tokenizer of a model's directory.
///
/// # Errors
/// There is none, or it cannot be used.
pub(crate) fn tokenizer(model: &Path) -> Result<Tokenizer> {
    if model.join(TOKENIZER).is_file() {
        return Tokenizer::open(model);
    }
    Err(Error::new(
        codes::TOKENIZER_MISSING,
        format!("the model directory has no {TOKENIZER}, without which no text becomes tokens"),
    )
    .with_at(model.display().to_string())
    .with_hint("download it, or convert without a calibration: --calibration none"))
}

fn corpus(
    request: &CalibrateRequest,
    tokenizer: &Tokenizer,
    pieces: &[Piece],
    tokens: usize,
    context: usize,
) -> Result<Corpus> {
    if !request.texts.is_empty() {
        let CalibrateRequest { texts, chat, built_in, .. } = request;
        return Corpus::of_files(tokenizer, texts, *chat, *built_in, pieces, tokens, context);
    }
    Corpus::built_in(tokenizer, pieces, tokens, context)
}

/// What the model says of the text that conversions are judged by.
fn judge(engine: &mut Engine, held_out: &Corpus, show: &dyn Fn(&Event<'_>)) -> Result<Judge> {
    let total = held_out.tokens();
    Judge::new(engine, held_out, &|done| {
        show(&Event::Measure { what: "running the original model", unit: "tokens", done, total });
    })
}

/// Has a model answer built-in questions, each by the most probable words.
fn own_answers(
    engine: Engine,
    tokenizer: &Tokenizer,
    count: usize,
    show: &dyn Fn(&Event<'_>),
) -> Result<(Engine, Vec<Piece>)> {
    let template = chat_template::open(tokenizer)?;
    let sampler = Sampler::new(Sampling::GREEDY, None);
    let mut generator = Generator::new(engine, sampler, tokenizer.stop_tokens());
    let questions: Vec<&str> = Corpus::questions(count).collect();
    let mut pieces = Vec::new();
    for (number, question) in questions.iter().enumerate() {
        check_cancelled()?;
        let (done, total) = (number as u64, questions.len() as u64);
        show(&Event::Measure { what: "answering questions", unit: "questions", done, total });
        let prompt = Piece::asked(tokenizer, template.as_ref(), question)?;
        generator.reset()?;
        let mut answer = Vec::new();
        generator.answer(prompt.tokens(), ANSWER, &mut |token| {
            answer.push(token);
            Ok(())
        })?;
        let text = tokenizer.decode(&answer)?;
        pieces.push(Piece::answered(tokenizer, template.as_ref(), question, text.trim())?);
    }
    Ok((generator.into_engine(), pieces))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_run_kept_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("a.safetensors");
        assert_eq!(kept(&output), 0);
        std::fs::write(folder.path().join("a.safetensors.partial"), [0; 30]).unwrap();
        std::fs::write(folder.path().join("a.safetensors.partial-2"), [0; 12]).unwrap();
        assert_eq!(kept(&output), 42);
        assert_eq!(too_few(60, kept(&output), 100), None);
        assert_eq!(too_few(57, kept(&output), 100), Some(57));
    }
}
