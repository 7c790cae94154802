//! Vectors of texts, from conversions that give those: how texts become tokens, and how their
//! functions are driven.
//!
//! A text goes through in batches, each with the weights of its tokens and what the batches before it
//! have come to; the vector is that of the last. Where tokens see those behind them too, the text is one
//! batch, and the mask opens all of its tokens in every row. Tokens that fill a batch up weigh nothing,
//! and no token of the text sees them.

use crate::engine::{Call, Opening, inputs, mask_of, step};
use crate::head::Elements as _;
use anemll_codes as codes;
use anemll_conversion::{Conversion, Embedding};
use anemll_layout::anemll;
use anemll_plugin_api::data::Pooling;
use anemll_plugin_api::{DType, Error, Host, Result, Runtime, Session, Tensor};
use anemll_tokenizer::Tokenizer;
use half::f16;
use serde::Serialize;
use std::path::Path;

/// Whether the conversion that a meta.yaml is of gives vectors.
///
/// # Errors
/// There is no conversion that can be read.
pub fn gives_vectors(meta: &Path) -> Result<bool> {
    Ok(Conversion::read(meta)?.description.embedding.is_some())
}

/// An open conversion that gives vectors.
pub struct Embedder {
    sessions: Vec<Box<dyn Session>>,
    calls: Vec<Call>,
    conversion: Conversion,
    embedding: Embedding,
    context: u64,
    batch: u64,
}

/// The vector of a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Vector {
    /// The text as it was given.
    pub text: String,
    /// Its tokens, prompt and special ones included.
    pub tokens: usize,
    /// The vector.
    pub embedding: Vec<f32>,
}

impl Embedder {
    /// Opens every package of the conversion that a meta.yaml is of.
    ///
    /// # Errors
    /// A conversion that gives logits; what keeps packages from being opened.
    pub fn open(meta: &Path, runtime: &dyn Runtime, host: &Host) -> Result<Self> {
        let conversion = Conversion::read(meta)?;
        let availability = runtime.check()?;
        if !availability.available {
            return Err(Error::new(codes::RUNTIME_UNAVAILABLE, availability.reason));
        }
        let Some(embedding) = conversion.description.embedding.clone() else {
            return Err(Error::new(
                codes::CONVERSION_KIND,
                "this conversion gives text, no vectors",
            )
            .with_at(conversion.source().display().to_string())
            .with_hint("use `anemll generate` or `anemll chat`, or convert with --task embed"));
        };
        let mut opening = Opening::new(&conversion, runtime, host);
        let calls = opening.calls(&conversion.description.run.embed)?;
        let sessions = opening.into_sessions();
        let (batch, context) = mask_of(&conversion, &calls)?;
        Ok(Self { sessions, calls, conversion, embedding, context, batch })
    }

    /// What the vectors are, and how texts become tokens.
    pub fn embedding(&self) -> &Embedding {
        &self.embedding
    }

    /// Most tokens of a text.
    pub fn context(&self) -> u64 {
        self.context
    }

    /// Tokens that one call takes.
    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// Makes a vector that nobody wants: all that is read of the packages at their first use was read
    /// then, whatever becomes of their files.
    ///
    /// # Errors
    /// Those of the runtime.
    pub fn warm_up(&mut self) -> Result<()> {
        self.vector(&[0]).map(drop)
    }

    /// The vector of a text's tokens.
    ///
    /// # Errors
    /// No tokens, more than the context has, and those of the runtime.
    pub fn vector(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let count = tokens.len() as u64;
        if count == 0 || count > self.context {
            let what = if count == 0 { "no tokens".to_owned() } else { format!("{count} tokens") };
            return Err(Error::new(
                codes::EVALUATION_INPUT,
                format!("{what}: a text has 1 to {} here", self.context),
            )
            .with_hint("cut longer texts with --truncate, or convert with a larger --context"));
        }
        let mut pooled = None;
        let mut vector = None;
        for (number, batch) in (0..).zip(tokens.chunks(self.batch as usize)) {
            anemll_services::check_cancelled()?;
            (pooled, vector) = self.run(batch, number * self.batch, count, pooled)?;
        }
        vector.ok_or_else(|| self.lacks(anemll::EMBEDDING))?.floats()
    }

    /// Runs a batch that begins at `position` in a text of `count` tokens; gives what it adds up to so
    /// far, and the vector of that.
    fn run(
        &mut self,
        tokens: &[u32],
        position: u64,
        count: u64,
        pooled: Option<Tensor>,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let description = &self.conversion.description;
        let (batch, context) = (self.batch, self.context);
        let mut values = inputs(&description.inputs, tokens, batch, position, context);
        let mut add = |tensor: Tensor| values.insert(tensor.name.clone(), tensor);
        if self.embedding.bidirectional {
            let row = (0..context).map(|column| match column < count {
                true => f16::ZERO,
                false => f16::NEG_INFINITY,
            });
            let row: Vec<f16> = row.collect();
            add(float16(
                &description.inputs.mask,
                &[1, 1, batch, context],
                &row.repeat(batch as usize),
            ));
        }
        let weights: Vec<f16> = (position..position + batch)
            .map(|place| f16::from_f64(weight(self.embedding.pooling, place, count)))
            .collect();
        add(float16(anemll::POOLING_WEIGHTS, &[1, 1, batch], &weights));
        add(match pooled {
            Some(pooled) => pooled,
            None => {
                let width = self.pooled_width()?;
                float16(anemll::POOLED, &[1, 1, width], &vec![f16::ZERO; width as usize])
            }
        });
        for call in &self.calls {
            let session = self.sessions.get_mut(call.session);
            let session = session.ok_or_else(crate::head::no_rows)?;
            step(session.as_mut(), call, &description.run.feeds, &mut values, None)?;
        }
        Ok((values.remove(anemll::POOLED), values.remove(anemll::EMBEDDING)))
    }

    /// Elements of what batches come to, as the function says that takes it.
    fn pooled_width(&self) -> Result<u64> {
        let mut inputs = self.calls.iter().flat_map(|call| &call.signature.inputs);
        let pooled = inputs.rfind(|input| input.name == anemll::POOLED);
        match pooled.and_then(|input| input.shapes.first()).map(Vec::as_slice) {
            Some([1, 1, width]) if (1..=LARGEST_WIDTH).contains(width) => Ok(*width),
            _ => Err(self.lacks(anemll::POOLED)),
        }
    }

    fn lacks(&self, value: &str) -> Error {
        Error::new(
            codes::ENGINE_INTERFACE,
            format!("the packages have no value `{value}` as those for vectors have it"),
        )
        .with_at(self.conversion.directory.display().to_string())
        .with_hint("the packages are damaged or of another conversion; convert the model again")
    }

    /// The tokens of a text of a kind (a prompt's name), or of the default kind. With `truncate`, a text
    /// that is too long loses its end, as sentence-transformers has it; the special tokens stay.
    ///
    /// # Errors
    /// A kind that the model does not know, a text that is too long, and the tokenizer's.
    pub fn tokens(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        kind: Option<&str>,
        truncate: bool,
    ) -> Result<Vec<u32>> {
        let text = self.prompted(text, kind)?;
        let most = self.context as usize;
        let mut tokens = tokenizer.encode(&text, true)?;
        if truncate && tokens.len() > most {
            let (lead, plain) = (tokenizer.lead()?.len(), tokenizer.encode(&text, false)?);
            let around = tokens.len().checked_sub(plain.len()).filter(|around| *around < most);
            let behind = around.and_then(|around| around.checked_sub(lead));
            let Some(behind) = behind.filter(|_| tokens[lead..].starts_with(&plain)) else {
                return Err(Error::new(
                    codes::EVALUATION_INPUT,
                    "the text cannot be cut: the tokenizer puts special tokens into its midst",
                ));
            };
            tokens.drain(most - behind..tokens.len() - behind);
        }
        tokenizer.check_vocabulary(&tokens, self.embedding.vocabulary)?;
        Ok(tokens)
    }

    /// A text with its prompt, as sentence-transformers gives it to the tokenizer.
    fn prompted(&self, text: &str, kind: Option<&str>) -> Result<String> {
        let Embedding { prompts, default_prompt, lowercase, .. } = &self.embedding;
        let prompt = match kind.or(default_prompt.as_deref()) {
            None => "",
            Some(kind) => prompts.get(kind).ok_or_else(|| {
                let known: Vec<&str> = prompts.keys().map(String::as_str).collect();
                let error = Error::new(codes::USAGE, format!("the model has no prompt `{kind}`"));
                error.with_at("--prompt-name").with_hint(match known.is_empty() {
                    true => "it has none at all; leave --prompt-name out".to_owned(),
                    false => format!("it has {}", known.join(", ")),
                })
            })?,
        };
        let text = format!("{prompt}{text}");
        let text = text.trim_matches(|character: char| {
            character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
        });
        Ok(if *lowercase { text.to_lowercase() } else { text.to_owned() })
    }

    /// The vector of a text.
    ///
    /// # Errors
    /// As [`Self::tokens`] and [`Self::vector`].
    pub fn embed(
        &mut self,
        tokenizer: &Tokenizer,
        text: &str,
        kind: Option<&str>,
        truncate: bool,
    ) -> Result<Vector> {
        let tokens = self.tokens(tokenizer, text, kind, truncate)?;
        let embedding = self.vector(&tokens)?;
        Ok(Vector { text: text.to_owned(), tokens: tokens.len(), embedding })
    }
}

/// Elements of the widest vector.
const LARGEST_WIDTH: u64 = 1 << 24;

/// How much the token at a place counts, of `count`.
fn weight(pooling: Pooling, place: u64, count: u64) -> f64 {
    let counts = |yes: bool| if yes { 1.0 } else { 0.0 };
    match pooling {
        Pooling::First => counts(place == 0),
        Pooling::Last => counts(place + 1 == count),
        _ if place < count => 1.0 / count as f64,
        _ => 0.0,
    }
}

fn float16(name: &str, shape: &[u64], values: &[f16]) -> Tensor {
    Tensor {
        name: name.to_owned(),
        dtype: DType::FLOAT16,
        shape: shape.to_vec(),
        bytes: bytemuck::cast_slice(values).to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_add_up_to_one_and_leave_what_fills_up_alone() {
        let weights =
            |pooling| -> Vec<f64> { (0..6).map(|place| weight(pooling, place, 4)).collect() };
        assert_eq!(weights(Pooling::First), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(weights(Pooling::Last), [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(weights(Pooling::Mean), [0.25, 0.25, 0.25, 0.25, 0.0, 0.0]);
    }
}
