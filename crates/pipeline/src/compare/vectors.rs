//! A conversion that gives vectors beside its original model: the same texts go through both.

use super::{BUILT_IN, CompareRequest, Sample, frontend_options, refuse_other_model};
use crate::calibrate;
use crate::event::Event;
use crate::kept::Kept;
use crate::model_files::hash_source;
use crate::model_source::{Need, Source};
use crate::original::BATCH;
use crate::plugins::Plugins;
use crate::quantizer_choice::QuantizerChoice;
use crate::request::ConvertRequest;
use crate::task::{ModelTask, sentence_model, with_layers};
use crate::{convert, scratch};
use anemll_codes as codes;
use anemll_conversion::{Conversion, META};
use anemll_generation::embedder::Embedder;
use anemll_generation::sources::lines;
use anemll_huggingface::ModelDirectory;
use anemll_plugin_api::{ComponentOptions, Error, Host, Result};
use anemll_tokenizer::Tokenizer;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

/// Version of the schema of [`VectorComparison`].
const SCHEMA: u32 = 1;
/// Tokens of the built-in text, and of each of the texts that it is cut into.
const TOKENS: u64 = 2048;
const TEXT: usize = 48;
/// Texts that are told for people.
const WORST: usize = 5;
/// Characters of a text that are told.
const SHOWN: usize = 60;

/// How far the vectors of a conversion are from its original's.
#[derive(Debug, Clone, Serialize)]
pub struct VectorComparison {
    /// Version of this schema.
    pub schema: u32,
    /// meta.yaml of the conversion.
    pub meta: String,
    /// The original model.
    pub model: String,
    /// Where the texts are from: a file, or [`BUILT_IN`].
    pub text: String,
    /// How many texts there are.
    pub texts: u64,
    /// Their tokens, prompts and special ones included.
    pub tokens: u64,
    /// Smallest cosine between two vectors of a text.
    pub cosine_min: f64,
    /// Mean cosine.
    pub cosine_mean: f64,
    /// Largest length of a difference of two vectors, by the length of the original's.
    pub relative_l2_max: f64,
    /// Its mean.
    pub relative_l2_mean: f64,
    /// Share of the texts whose nearest other text is the same, by cosine; none of fewer than three.
    pub nearest_agreement: Option<f64>,
    /// Each text.
    pub per_text: Vec<TextDistance>,
}

impl VectorComparison {
    /// Lines for people, the worst texts at the end.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "texts        {}, of {} tokens: {}\ncosine       smallest {:.6}, mean {:.6}\n\
             relative L2  largest {}, mean {}\n",
            self.texts,
            self.tokens,
            self.text,
            self.cosine_min,
            self.cosine_mean,
            percent(self.relative_l2_max),
            percent(self.relative_l2_mean)
        );
        if let Some(share) = self.nearest_agreement {
            let _ = writeln!(text, "same nearest {}", percent(share));
        }
        let mut worst: Vec<&TextDistance> = self.per_text.iter().collect();
        worst.sort_by(|left, right| right.relative_l2.total_cmp(&left.relative_l2));
        for one in worst.into_iter().take(WORST) {
            let begins = anemll_terminal::plain(&one.text);
            let _ =
                writeln!(text, "  {:.6}  {:>6}  {begins}", one.cosine, percent(one.relative_l2));
        }
        text
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// How far the vector of a text is from the original's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextDistance {
    /// How the text begins.
    pub text: String,
    /// Its tokens.
    pub tokens: u64,
    /// Cosine between the vectors.
    pub cosine: f64,
    /// Length of the difference, by the length of the original's vector.
    pub relative_l2: f64,
}

/// Compares a conversion that gives vectors with its original.
///
/// # Errors
/// The conversion is of another model, or gives no vectors; the texts cannot be read; those of opening
/// and running both.
pub fn compare_vectors(
    request: &CompareRequest,
    plugins: &Plugins,
    host: &Host,
    show: &dyn Fn(&Event<'_>),
) -> Result<VectorComparison> {
    let conversion = Conversion::read(&request.meta)?;
    let runtime = plugins.exact_runtime(&request.runtime)?;
    let mut embedder = Embedder::open(&request.meta, runtime.as_ref(), host)?;
    let model = Source::open(&request.model, Need::Weights, show)?.whole(show)?;
    let sentence = sentence_model(Some(ModelTask::Embed), &model, show)?;
    let directory = ModelDirectory::open(&model).map_err(Error::from)?;
    let directory = with_layers(directory, sentence.as_ref())?;
    let source_sha256 = hash_source(&directory, show)?;
    refuse_other_model(&conversion, &source_sha256, &model)?;
    let tokenizer = calibrate::tokenizer(&model)?;
    let texts = texts(request, &tokenizer, embedder.context())?;

    let exact = ComponentOptions::new().with("activations", "float32");
    let exact = plugins.runtime_with(&request.runtime, &exact)?;
    let folder =
        scratch::folder(&scratch::or_usual(request.scratch.as_deref()), "anemll-original-")?;
    let (options, _) = frontend_options(&conversion, request, &directory, plugins)?;
    let original = ConvertRequest {
        task: Some(ModelTask::Embed),
        context: embedder.context(),
        batch: BATCH.min(embedder.context()),
        arch: request.arch.clone(),
        head: request.head,
        quantizer: QuantizerChoice { options, ..QuantizerChoice::none() },
        kept: Some(Arc::new(Kept::hash(source_sha256))),
        ..ConvertRequest::unquantized(&model, folder.path())
    };
    // Bars alone: what the conversion says is of no use here.
    let bars = |event: &Event<'_>| {
        if event.line().is_none() {
            show(event);
        }
    };
    convert::run(&original, plugins, "", &bars)?;
    let mut original = Embedder::open(&folder.path().join(META), exact.as_ref(), host)?;

    let total = texts.len() as u64;
    let (mut ours, mut theirs, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    for (number, text) in (0..).zip(&texts) {
        show(&Event::Measure { what: "comparing", unit: "texts", done: number, total });
        let tokens = embedder.tokens(&tokenizer, text, None, true)?;
        ours.push(embedder.vector(&tokens)?);
        theirs.push(original.vector(&tokens)?);
        counts.push(tokens.len() as u64);
    }
    let named = texts.iter().zip(&counts).map(|(text, tokens)| (text.as_str(), *tokens));
    let per_text = distances(named, &ours, &theirs);
    let name = request.text.as_ref().map(|path| path.display().to_string());
    Ok(VectorComparison {
        schema: SCHEMA,
        meta: request.meta.display().to_string(),
        model: model.display().to_string(),
        text: name.unwrap_or_else(|| BUILT_IN.to_owned()),
        texts: total,
        tokens: counts.iter().sum(),
        cosine_min: worst(per_text.iter().map(|text| -text.cosine)).map_or(f64::NAN, |it| -it),
        cosine_mean: mean(per_text.iter().map(|text| text.cosine)),
        relative_l2_max: worst(per_text.iter().map(|text| text.relative_l2)).unwrap_or(f64::NAN),
        relative_l2_mean: mean(per_text.iter().map(|text| text.relative_l2)),
        nearest_agreement: nearest_agreement(&ours, &theirs),
        per_text,
    })
}

/// The lines of the file, up to so many tokens, or pieces of the built-in text.
fn texts(request: &CompareRequest, tokenizer: &Tokenizer, context: u64) -> Result<Vec<String>> {
    let Some(path) = &request.text else {
        let context = usize::try_from(context).unwrap_or(usize::MAX);
        let sample = Sample::new(tokenizer, None, TOKENS.min(request.tokens), context)?;
        return sample.tokens().chunks(TEXT).map(|piece| tokenizer.decode(piece)).collect();
    };
    let (mut texts, mut tokens) = (Vec::new(), 0_u64);
    lines(path, &mut |line| {
        if tokens < request.tokens {
            tokens += tokenizer.encode(line, true)?.len() as u64;
            texts.push(line.to_owned());
        }
        Ok(())
    })?;
    match texts.is_empty() {
        true => Err(no_texts(path)),
        false => Ok(texts),
    }
}

fn no_texts(path: &Path) -> Error {
    Error::new(codes::EVALUATION_INPUT, "the file has no text")
        .with_at(path.display().to_string())
        .with_hint("give a file with a text in each line")
}

fn distances<'a>(
    texts: impl Iterator<Item = (&'a str, u64)>,
    ours: &[Vec<f32>],
    theirs: &[Vec<f32>],
) -> Vec<TextDistance> {
    let distance = |((text, tokens), place): ((&str, u64), usize)| {
        let (ours, theirs) = (&ours[place], &theirs[place]);
        let apart: Vec<f32> = ours.iter().zip(theirs).map(|(ours, theirs)| ours - theirs).collect();
        let relative_l2 = (dot(&apart, &apart) / dot(theirs, theirs)).sqrt();
        let cosine = cosine(ours, theirs);
        TextDistance { text: text.chars().take(SHOWN).collect(), tokens, cosine, relative_l2 }
    };
    texts.zip(0..ours.len().min(theirs.len())).map(distance).collect()
}

fn dot(left: &[f32], right: &[f32]) -> f64 {
    left.iter().zip(right).map(|(left, right)| f64::from(*left) * f64::from(*right)).sum()
}

fn cosine(left: &[f32], right: &[f32]) -> f64 {
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

/// The largest value; one that is no number is worse than any.
fn worst(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.reduce(|worst, value| if value.is_nan() || value > worst { value } else { worst })
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

fn nearest_agreement(ours: &[Vec<f32>], theirs: &[Vec<f32>]) -> Option<f64> {
    if ours.len() < 3 {
        return None;
    }
    let nearest = |vectors: &[Vec<f32>], own: usize| {
        let others = (0..vectors.len()).filter(|other| *other != own);
        others
            .map(|other| (other, cosine(&vectors[own], &vectors[other])))
            .max_by(|left, right| left.1.total_cmp(&right.1))
            .map(|(other, _)| other)
    };
    let same = (0..ours.len()).filter(|own| nearest(ours, *own) == nearest(theirs, *own)).count();
    Some(same as f64 / ours.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_vectors() {
        let (ours, theirs) = ([vec![3.0, 4.0]], [vec![4.0, 3.0]]);
        let found = distances([("a", 2)].into_iter(), &ours, &theirs);
        assert!((found[0].cosine - 24.0 / 25.0).abs() < 1e-12, "{found:?}");
        assert!((found[0].relative_l2 - 2.0_f64.sqrt() / 5.0).abs() < 1e-7, "{found:?}");
    }

    #[test]
    fn what_is_no_number_is_the_worst() {
        assert!(worst([1.0, f64::NAN, 2.0].into_iter()).unwrap().is_nan());
        assert!(worst([f64::NAN, 1.0].into_iter()).unwrap().is_nan());
        assert_eq!(worst([1.0, 3.0, 2.0].into_iter()), Some(3.0));
        assert_eq!(worst(std::iter::empty()), None);
    }

    #[test]
    fn the_nearest_text_may_become_another() {
        let [x, y] = [vec![1.0, 0.0], vec![0.0, 1.0]];
        let near_x = vec![1.0, 0.1];
        let texts = [x.clone(), near_x.clone(), y.clone()];
        assert_eq!(nearest_agreement(&texts, &texts), Some(1.0));
        // The third lies nearer to the second than the first does.
        let moved = [x, near_x, vec![1.0, 0.11]];
        assert!(nearest_agreement(&moved, &texts).unwrap() < 1.0);
        assert_eq!(nearest_agreement(&texts[..2], &texts[..2]), None);
    }
}
