//! The logits of an export against those of its original model.
//!
//! The original is converted to 16-bit floats in a temporary folder, and gives its logits through
//! the evaluation functions. The export runs as apps run it: its compiled models, token by token.

use super::VerifyArguments;
use crate::error::from_export;
use anemll_codes as codes;
use anemll_conversion::{Conversion, Form, META};
use anemll_export::Release;
use anemll_generation::engine::{Engine, Head};
use anemll_generation::evaluation::{argmax, logsumexp, measure};
use anemll_pipeline::plugins::Plugins;
use anemll_pipeline::request::ConvertRequest;
use anemll_plugin_api::{Error, Result};
use anemll_services::{self as services, check_cancelled};
use anemll_tokenizer::Tokenizer;
use serde::Serialize;
use std::path::Path;

/// What both run on.
const TEXT: &str = include_str!("text.txt");

/// Least share of equal winners where an export gives no logits.
const LEAST_AGREEMENT: f64 = 0.5;

/// How far an export is from its original.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Comparison {
    /// Tokens that were run.
    tokens: u64,
    /// Mean Kullback-Leibler divergence from the original's distributions, in nats; null where the
    /// export gives no logits.
    kl_mean: Option<f64>,
    /// Share of tokens for which both have the same winner.
    top1_agreement: f64,
    /// Perplexity of the text under the export.
    perplexity: Option<f64>,
    /// Perplexity of the text under the original.
    source_perplexity: f64,
    /// Tokens at which the export's logits are not all finite.
    not_finite: u64,
}

impl Comparison {
    /// Whether the export is near enough, with numbers throughout.
    pub(super) fn is_within(&self, limit: f64) -> bool {
        let near = match self.kl_mean {
            Some(kl) => kl <= limit,
            None => self.top1_agreement >= LEAST_AGREEMENT,
        };
        self.not_finite == 0 && near
    }

    /// What is wrong with an export that is not near enough.
    pub(super) fn fault(&self, limit: f64) -> String {
        match self.kl_mean {
            _ if self.not_finite > 0 => {
                format!("the export's logits are not finite at {} tokens", self.not_finite)
            }
            Some(_) => format!("the export is further from its original than --max-kl {limit}"),
            None => "the export and its original agree on fewer than half of the tokens".to_owned(),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("against the original, on {} tokens:\n", self.tokens);
        if let Some(kl) = self.kl_mean {
            text += &format!("  mean KL          {kl:.3e} nats\n");
        }
        text += &format!("  top-1 agreement  {:.1} %\n", 100.0 * self.top1_agreement);
        if let Some(perplexity) = self.perplexity {
            let original = self.source_perplexity;
            text += &format!("  perplexity       {perplexity:.3} (original {original:.3})\n");
        }
        if self.not_finite > 0 {
            text += &format!("  not finite       logits of {} tokens\n", self.not_finite);
        }
        text
    }
}

/// Runs the export and its original.
pub(super) fn compare(
    arguments: &VerifyArguments,
    source: &Path,
    release: &Release,
    plugins: &Plugins,
) -> Result<Comparison> {
    let scratch = scratch(arguments)?;
    let unpacked = scratch.path().join("export");
    fs_err::create_dir(&unpacked)
        .map_err(|error| Error::new(codes::OUTPUT_UNWRITABLE, error.to_string()))?;
    let folder = anemll_export::unpack(&arguments.directory, release, &unpacked, &mut |_| {
        check_cancelled().is_ok()
    })
    .map_err(from_export)?;
    let host = services::host();
    let runtime = plugins.exact_runtime(&arguments.runtime)?;
    let mut conversion = Conversion::read(&folder.join(META))?;
    conversion.form = Form::Compiled;
    let mut export = Engine::open_conversion(conversion, runtime.as_ref(), &host)?;
    let tokenizer = Tokenizer::open(&folder)?;
    let mut tokens = [tokenizer.lead()?, tokenizer.encode(TEXT, false)?].concat();
    tokens.truncate(usize::try_from(arguments.max_tokens.min(export.context())).unwrap_or(2));
    let output = scratch.path().join("original");
    convert(arguments, plugins, source, &output, &export)?;
    let mut original = Engine::open(&output.join(META), runtime.as_ref(), &host)?;
    if let (Some(ours), Some(theirs)) = (export.vocabulary(), original.vocabulary())
        && ours != theirs
    {
        return Err(other_model(ours, theirs).with_at(source.display().to_string()));
    }
    run(&mut export, &mut original, &tokens)
}

fn other_model(ours: u64, theirs: u64) -> Error {
    Error::new(codes::RELEASE_FAR, format!("the export has {ours} logits, the original {theirs}"))
        .with_hint("this is not the model that the export was made from")
}

fn run(export: &mut Engine, original: &mut Engine, tokens: &[u32]) -> Result<Comparison> {
    let mut sums = Sums::default();
    let batch = original.batch().max(1) as usize;
    // Of the last token nothing is known that comes after it, but its winner counts.
    for (number, part) in tokens.chunks(batch).enumerate() {
        let first = number * batch;
        let rows = original.evaluate(part, first as u64)?;
        for (row, (token, theirs)) in part.iter().zip(&rows).enumerate() {
            check_cancelled()?;
            let position = first + row;
            let ours = export.infer(*token, position as u64)?;
            let Head::Logits(theirs) = theirs else {
                return Err(Error::new(codes::INTERNAL, "evaluation functions give all logits"));
            };
            if let Head::Logits(ours) = &ours
                && ours.len() != theirs.len()
            {
                return Err(other_model(ours.len() as u64, theirs.len() as u64));
            }
            sums.add(position, &ours, theirs, tokens.get(position + 1).copied());
        }
    }
    Ok(sums.comparison(tokens.len() as u64))
}

#[derive(Debug, Default)]
struct Sums {
    divergence: f64,
    winners: u64,
    scored: u64,
    nll: f64,
    source_nll: f64,
    with_logits: u64,
    not_finite: u64,
}

impl Sums {
    fn add(&mut self, position: usize, ours: &Head, theirs: &[f32], next: Option<u32>) {
        let total = logsumexp(theirs);
        let of = |logits: &[f32], total: f64, token: u32| {
            total - f64::from(logits.get(token as usize).copied().unwrap_or(f32::NAN))
        };
        if let Some(next) = next {
            self.scored += 1;
            self.source_nll += of(theirs, total, next);
        }
        match ours {
            Head::Logits(ours) if ours.iter().all(|value| value.is_finite()) => {
                let indices = 0..theirs.len() as u32;
                let compared = measure(position, ours, indices, theirs, total);
                self.with_logits += 1;
                self.divergence += compared.kl;
                self.winners += u64::from(compared.top1 || compared.tie);
                if let Some(next) = next {
                    self.nll += of(ours, logsumexp(ours), next);
                }
            }
            Head::Logits(_) => {
                self.with_logits += 1;
                self.not_finite += 1;
            }
            Head::Largest(token, value) => {
                self.winners += u64::from(*token as usize == argmax(theirs));
                self.not_finite += u64::from(!value.is_finite());
            }
        }
    }

    fn comparison(&self, tokens: u64) -> Comparison {
        let mean = |sum: f64, count: u64| sum / count.max(1) as f64;
        let logits = self.with_logits > 0 && self.not_finite == 0;
        Comparison {
            tokens,
            kl_mean: logits.then(|| mean(self.divergence, tokens)),
            top1_agreement: mean(self.winners as f64, tokens),
            perplexity: logits.then(|| mean(self.nll, self.scored).exp()),
            source_perplexity: mean(self.source_nll, self.scored).exp(),
            not_finite: self.not_finite,
        }
    }
}

fn scratch(arguments: &VerifyArguments) -> Result<tempfile::TempDir> {
    let parent = arguments.scratch.clone().unwrap_or_else(std::env::temp_dir);
    tempfile::Builder::new().prefix("anemll-verify-").tempdir_in(&parent).map_err(|source| {
        Error::new(codes::OUTPUT_UNWRITABLE, format!("cannot make a temporary folder: {source}"))
            .with_at(parent.display().to_string())
            .with_hint("choose another folder with --scratch")
    })
}

/// Converts the original to 16-bit floats, with the context of the export.
fn convert(
    arguments: &VerifyArguments,
    plugins: &Plugins,
    source: &Path,
    output: &Path,
    export: &Engine,
) -> Result<()> {
    super::super::say("converting the original to 16-bit floats in a temporary folder");
    let request = ConvertRequest {
        context: export.context(),
        batch: export.batch(),
        head: arguments.head.map(Into::into),
        arch: arguments.arch.clone(),
        ..ConvertRequest::unquantized(source, output)
    };
    anemll_pipeline::run(&request, plugins, "anemll verify", &|_| {})
}
