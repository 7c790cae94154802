//! The rotary parameters of a configuration, in both of transformers' spellings.
//!
//! Up to transformers 4 the base stands in `rope_theta` and the scaling in `rope_scaling`; from 5
//! on both stand in `rope_parameters`, and 5 reads the older spelling too. Where the two versions
//! would compute different numbers from one configuration, it is refused.

use anemll_plugin_api::{Result, Value};

use super::{Config, brief};
use crate::error::{entries, key_invalid, key_missing, key_unsupported, shown};
use crate::rope::RopeScaling;

/// Where transformers 5 keeps the parameters.
const NEW: &str = "rope_parameters";
/// The kinds of layers that they may stand under there.
const WHOLE: &str = "full_attention";
const LOCAL: &str = "sliding_attention";

/// The key of what queries at late positions are scaled by.
const QUERY_SCALE: &str = "llama_4_scaling_beta";
/// Keys of sections of a head that turn by places in images.
const SECTIONS: [&str; 2] = ["mrope_section", "mrope_interleaved"];
const ORIGINAL: &str = "original_max_position_embeddings";

/// Base and scaling of the rotary frequencies.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// `rope_theta`.
    pub base: f64,
    /// What `rope_type` and its parameters say.
    pub scaling: RopeScaling,
    /// The share of a head that is rotated, `partial_rotary_factor`.
    pub share: f64,
    /// The key that gives the base, or would.
    pub base_key: String,
    /// The object of the scaling, or where it would be.
    pub section: String,
    /// Remarks for the report.
    pub notes: Vec<String>,
}

/// How a family's configuration says the rotary parameters, and what for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeRules {
    /// `max_position_embeddings`.
    pub longest: u64,
    /// Positions of the table.
    pub context: u64,
    /// The base where none is given.
    pub base: f64,
    /// `partial_rotary_factor` where it is not given, in families that have it; others rotate heads
    /// whole.
    pub partial: Option<f64>,
    /// Whether the type `longrope` (`su` and `yarn` in old files) is known, and
    /// `original_max_position_embeddings` where it is not given.
    pub longrope: Option<u64>,
    /// Whether `rope_parameters` may hold those of each kind of layer; those of layers that see all
    /// are read.
    pub layered: bool,
    /// Whether `llama_4_scaling_beta` acts: queries beyond the length of pretraining are scaled.
    pub scales_queries: bool,
    /// Whether sections of a head for the places in images may be given: in text, all are equal.
    pub sections: bool,
}

impl RopeRules {
    /// Those of Llama.
    pub const fn new(longest: u64, context: u64) -> Self {
        Self {
            longest,
            context,
            base: 10_000.0,
            partial: None,
            longrope: None,
            layered: false,
            scales_queries: false,
            sections: false,
        }
    }
}

/// Reads the rotary parameters for a table.
///
/// The type `dynamic` is accepted where it does not act, up to the longest context; types that no
/// fixed table can express are refused by key.
///
/// # Errors
/// Keys that are missing, have a wrong type or value, contradict one another, or cannot be expressed.
pub fn read_rope(config: &Config<'_>, rules: &RopeRules) -> Result<Rope> {
    let &RopeRules { longest, context, base: default, .. } = rules;
    let outer_share = share(config, rules)?.or(rules.partial);
    let top_base = config.number("rope_theta")?;
    let Some(section) = pick_section(config, rules.layered)? else {
        let base = top_base.unwrap_or(default);
        let share = outer_share.unwrap_or(1.0);
        return Ok(Rope {
            base,
            scaling: RopeScaling::None,
            share,
            base_key: config.path("rope_theta"),
            section: config.path("rope_scaling"),
            notes: Vec::new(),
        });
    };
    let share = share(&section, rules)?.or(outer_share).unwrap_or(1.0);
    let inner_base = section.number("rope_theta")?;
    let base_of = if inner_base.is_some() { &section } else { config };
    let base_key = base_of.path("rope_theta");
    let base = match (inner_base, top_base) {
        (Some(inner), Some(outer)) if inner != outer => {
            return Err(key_unsupported(
                &section.path("rope_theta"),
                format!(
                    "is {inner}, but `rope_theta` is {outer}; versions of transformers differ on which counts"
                ),
            ));
        }
        // Up to transformers 4, a base inside `rope_scaling` is not read, and the default counts.
        (Some(inner), None) if is_old(&section) && inner != default => {
            return Err(key_unsupported(
                &section.path("rope_theta"),
                format!(
                    "is {inner}, and there is no `rope_theta` outside; versions of transformers \
                     differ on whether it counts"
                ),
            ));
        }
        (Some(base), _) | (None, Some(base)) => base,
        (None, None) => default,
    };
    let mut reader = Reader { config, section: &section, longest, notes: Vec::new() };
    let (type_key, kind) = reader.kind()?;
    let scaling = match (kind, rules.longrope) {
        ("longrope" | "su" | "yarn", Some(original)) => reader.longrope(original, context)?,
        ("default", _) => RopeScaling::None,
        ("linear", _) => RopeScaling::Linear { factor: reader.factor()? },
        ("llama3", _) => reader.llama3()?,
        ("yarn", _) => reader.yarn()?,
        ("dynamic", _) => {
            reader.factor()?;
            if context > longest {
                return Err(key_unsupported(
                    &section.path(type_key),
                    format!(
                        "= \"dynamic\" changes the frequencies while a text grows beyond `max_position_embeddings` \
                         = {longest}, which a fixed table cannot do"
                    ),
                )
                .with_hint(format!("use a context of at most {longest}")));
            }
            reader.notes.push(format!(
                "config.json: `{}` = \"dynamic\" does not act within {longest} positions",
                section.path(type_key)
            ));
            RopeScaling::None
        }
        (other, _) => {
            return Err(key_unsupported(
                &section.path(type_key),
                format!("= \"{other}\" cannot be expressed"),
            )
            .with_hint(format!(
                "known are default, linear, llama3, {}, and dynamic within max_position_embeddings",
                if rules.longrope.is_some() { "longrope" } else { "yarn" }
            )));
        }
    };
    if rules.scales_queries {
        reader.check_query_scale(context)?;
    }
    let name = match scaling {
        RopeScaling::Long { .. } => "longrope",
        _ => kind,
    };
    reader.remark_on_the_rest(name, rules)?;
    let notes = reader.notes;
    let section = section.path("").trim_end_matches('.').to_owned();
    Ok(Rope { base, scaling, share, base_key, section, notes })
}

/// Whether this is `rope_scaling`.
fn is_old(section: &Config<'_>) -> bool {
    section.path("").ends_with("rope_scaling.")
}

/// The base of the plain rotation that layers with a window have, where `rope_parameters` has those of
/// each kind of layer.
///
/// # Errors
/// A scaling of these layers.
pub fn read_local_base(config: &Config<'_>) -> Result<Option<f64>> {
    let Some(section) = config.section(NEW)? else { return Ok(None) };
    let Some(local) = section.section(LOCAL)? else { return Ok(None) };
    for (key, value) in local.entries() {
        if key != "rope_theta" && !(key == "rope_type" && value == "default") {
            return Err(key_unsupported(
                &local.path(key),
                format!("= {}: layers with a window rotate without scaling here", brief(value)),
            ));
        }
    }
    local.positive("rope_theta")
}

/// `rope_parameters` or `rope_scaling`; an empty object counts as absent.
fn pick_section<'a>(config: &Config<'a>, layered: bool) -> Result<Option<Config<'a>>> {
    let some =
        |section: Option<Config<'a>>| section.filter(|section| section.entries().next().is_some());
    let old = some(config.section("rope_scaling")?);
    let mut new = some(config.section(NEW)?);
    if let Some(section) = new.as_ref().filter(|_| layered)
        && let Some(whole) = section.section(WHOLE)?
    {
        // One for each kind of layer; the other is read by whoever has such layers.
        if let Some((other, _)) = section.entries().find(|(key, _)| ![WHOLE, LOCAL].contains(key)) {
            return Err(key_unsupported(
                &section.path(other),
                format!("stands beside `{WHOLE}`, which is of one kind of layer"),
            ));
        }
        new = Some(whole);
    }
    if let (Some(old), Some(new)) = (&old, &new)
        && let Some((key, _)) =
            old.entries().find(|(key, value)| new.get(key).is_some_and(|other| other != *value))
    {
        return Err(key_unsupported(&new.path(key), format!("and `{}` differ", old.path(key))));
    }
    // Both agree where they overlap; the one with more to say counts.
    Ok(match (old, new) {
        (Some(old), Some(new)) if old.entries().all(|(key, _)| new.get(key).is_some()) => Some(new),
        (Some(old), Some(new)) if new.entries().all(|(key, _)| old.get(key).is_some()) => Some(old),
        (Some(_), Some(_)) => {
            return Err(key_unsupported(
                &config.path(NEW),
                "and `rope_scaling` each hold keys that the other lacks",
            ));
        }
        (old, new) => new.or(old),
    })
}

/// The share of heads that is rotated; below 1 only in families that have that.
fn share(config: &Config<'_>, rules: &RopeRules) -> Result<Option<f64>> {
    const KEY: &str = "partial_rotary_factor";
    let share = config.number(KEY)?;
    match share {
        Some(share) if share != 1.0 && rules.partial.is_none() => Err(key_unsupported(
            &config.path(KEY),
            format!("= {share}: heads are rotated whole here"),
        )),
        Some(share) if !(share > 0.0 && share <= 1.0) => {
            Err(key_invalid(&config.path(KEY), format!("is {share}, not above 0 and up to 1")))
        }
        share => Ok(share),
    }
}

struct Reader<'a, 'b> {
    config: &'b Config<'a>,
    section: &'b Config<'a>,
    longest: u64,
    notes: Vec<String>,
}

impl<'a> Reader<'a, '_> {
    /// The key that gives the type, and the type.
    fn kind(&self) -> Result<(&'static str, &'a str)> {
        let (new, old) = (self.section.text("rope_type")?, self.section.text("type")?);
        match (new, old) {
            (Some(new), Some(old)) if new != old => Err(key_unsupported(
                &self.section.path("rope_type"),
                format!("= \"{new}\" contradicts `{}` = \"{old}\"", self.section.path("type")),
            )),
            (Some(kind), _) => Ok(("rope_type", kind)),
            (None, Some(kind)) => Ok(("type", kind)),
            (None, None) if self.section.entries().all(|(key, _)| key == "rope_theta") => {
                Ok(("rope_type", "default"))
            }
            (None, None) => Err(key_missing(&self.section.path("rope_type"))),
        }
    }

    fn factor(&mut self) -> Result<f64> {
        let factor = self
            .section
            .positive("factor")?
            .ok_or_else(|| key_missing(&self.section.path("factor")))?;
        if factor < 1.0 {
            let path = self.section.path("factor");
            self.notes.push(format!(
                "config.json: `{path}` = {} is below 1, which shortens the context",
                shown(factor)
            ));
        }
        Ok(factor)
    }

    fn required(&self, key: &str) -> Result<f64> {
        self.section.positive(key)?.ok_or_else(|| key_missing(&self.section.path(key)))
    }

    /// Queries are scaled by `1 + beta ln(1 + floor(position / original length))`, which is 1 within
    /// that length.
    fn check_query_scale(&self, context: u64) -> Result<()> {
        let Some(beta) = self.section.number(QUERY_SCALE)?.filter(|beta| *beta != 0.0) else {
            return Ok(());
        };
        let original = self.required(ORIGINAL)?;
        if context as f64 <= original {
            return Ok(());
        }
        let path = self.section.path(QUERY_SCALE);
        let reason = format!("= {beta} scales queries beyond `{ORIGINAL}` = {original}");
        Err(key_unsupported(&path, format!("{reason}, which cannot be expressed"))
            .with_hint(format!("within --context {original} it does not act: use that or less")))
    }

    fn llama3(&mut self) -> Result<RopeScaling> {
        let low_frequency_factor = self.required("low_freq_factor")?;
        let high_frequency_factor = self.required("high_freq_factor")?;
        if high_frequency_factor <= low_frequency_factor {
            return Err(key_invalid(
                &self.section.path("high_freq_factor"),
                format!(
                    "is {}, not above `low_freq_factor` = {}",
                    shown(high_frequency_factor),
                    shown(low_frequency_factor)
                ),
            ));
        }
        Ok(RopeScaling::Llama3 {
            factor: self.factor()?,
            low_frequency_factor,
            high_frequency_factor,
            original_context: self.original_context()?,
        })
    }

    fn yarn(&mut self) -> Result<RopeScaling> {
        // transformers takes its defaults for 0 as well as for absent keys.
        let or_default = |value: Option<f64>, default: f64| {
            value.filter(|value| *value != 0.0).unwrap_or(default)
        };
        let beta_fast = or_default(self.section.number("beta_fast")?, 32.0);
        let beta_slow = or_default(self.section.number("beta_slow")?, 1.0);
        for (key, beta) in [("beta_fast", beta_fast), ("beta_slow", beta_slow)] {
            if beta < 0.0 {
                return Err(key_invalid(
                    &self.section.path(key),
                    format!("is {}, not a positive number", shown(beta)),
                ));
            }
        }
        Ok(RopeScaling::Yarn {
            factor: self.factor()?,
            attention_factor: self.section.number("attention_factor")?,
            beta_fast,
            beta_slow,
            mscale: self.section.number("mscale")?,
            mscale_all_dimensions: self.section.number("mscale_all_dim")?,
            original_context: self.original_context()?,
            truncate: self.section.boolean("truncate")?.unwrap_or(true),
        })
    }

    /// Factors for texts of up to the length of pretraining, and for longer ones: the context decides,
    /// where transformers looks at each text.
    fn longrope(&mut self, original: u64, context: u64) -> Result<RopeScaling> {
        const KEY: &str = "original_max_position_embeddings";
        let original = match (self.section.size(KEY)?, self.config.size(KEY)?) {
            (Some(inner), Some(outer)) if inner != outer => {
                return Err(key_unsupported(
                    &self.section.path(KEY),
                    format!("is {inner}, but `{KEY}` is {outer}"),
                ));
            }
            (inner, outer) => outer.or(inner).unwrap_or(original),
        };
        let long = context > original;
        let read = |key: &str| {
            self.section.numbers(key)?.ok_or_else(|| key_missing(&self.section.path(key)))
        };
        let (short_factors, long_factors) = (read("short_factor")?, read("long_factor")?);
        let key = self.section.path(if long { "long_factor" } else { "short_factor" });
        if short_factors.len() != long_factors.len() {
            return Err(key_invalid(
                &self.section.path("long_factor"),
                format!(
                    "has {}, but `short_factor` has {}",
                    entries(long_factors.len()),
                    short_factors.len()
                ),
            ));
        }
        let ratio = self.longest as f64 / original as f64;
        let attention_factor = match self.section.positive("attention_factor")? {
            Some(factor) => factor,
            None if ratio <= 1.0 => 1.0,
            None => (1.0 + ratio.ln() / (original as f64).ln()).sqrt(),
        };
        if long {
            self.notes.push(format!(
                "config.json: `{key}` applies to texts of every length, since the context of {context} \
                 tokens is longer than `{KEY}` = {original}"
            ));
        }
        let factors = if long { long_factors } else { short_factors };
        Ok(RopeScaling::Long { factors, attention_factor, key })
    }

    /// `original_max_position_embeddings`, or the whole length where it is not given.
    fn original_context(&mut self) -> Result<f64> {
        const KEY: &str = "original_max_position_embeddings";
        let inner = self.section.size(KEY)?;
        let outer = self.config.size(KEY)?;
        match (inner, outer) {
            (Some(inner), Some(outer)) if inner != outer => Err(key_unsupported(
                &self.section.path(KEY),
                format!("is {inner}, but `{KEY}` is {outer}; versions of transformers differ on which counts"),
            )),
            (None, Some(outer)) => Err(key_unsupported(
                &self.config.path(KEY),
                format!("is {outer} outside of the rotary parameters; versions of transformers differ on whether it counts"),
            )
            .with_hint(format!("move it to `{}`", self.section.path(KEY)))),
            (Some(inner), _) => Ok(inner as f64),
            (None, None) => {
                self.notes.push(format!(
                    "config.json: `{}` is not given; `max_position_embeddings` = {} is taken, as transformers does",
                    self.section.path(KEY),
                    self.longest
                ));
                Ok(self.longest as f64)
            }
        }
    }

    /// Remarks on keys that the type does not use, as transformers warns of them.
    fn remark_on_the_rest(&mut self, kind: &str, rules: &RopeRules) -> Result<()> {
        let used: &[&str] = match kind {
            "linear" | "dynamic" => &["factor"],
            "llama3" => &[
                "factor",
                "low_freq_factor",
                "high_freq_factor",
                "original_max_position_embeddings",
            ],
            "longrope" => &[
                "short_factor",
                "long_factor",
                "factor",
                "attention_factor",
                "original_max_position_embeddings",
            ],
            "yarn" => &[
                "factor",
                "attention_factor",
                "beta_fast",
                "beta_slow",
                "mscale",
                "mscale_all_dim",
                "original_max_position_embeddings",
                "truncate",
            ],
            _ => &[],
        };
        const COMMON: &[&str] = &["rope_type", "type", "rope_theta", "partial_rotary_factor"];
        for (key, value) in self.section.entries() {
            let scale = rules.scales_queries && key == QUERY_SCALE;
            let section = rules.sections && SECTIONS.contains(&key);
            if used.contains(&key) || COMMON.contains(&key) || scale || section {
                continue;
            }
            let path = self.section.path(key);
            // Objects are parameters per layer type; sections of heads are of multimodal models.
            if matches!(value, Value::Object(_)) || key.starts_with("mrope") {
                return Err(key_unsupported(
                    &path,
                    format!("= {} cannot be expressed", brief(value)),
                ));
            }
            self.notes.push(format!(
                "config.json: `{path}` = {} is not used by the rotary type `{kind}`",
                brief(value)
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
