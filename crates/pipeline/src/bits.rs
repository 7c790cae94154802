//! Bits by measured damage: the smallest plan that keeps the model close to the original.
//!
//! Each weight has some choices, of which the quantizer knows how far off its products are by the
//! statistics of its inputs. What that does to the model's answers differs between the roles of
//! weights: an error of values harms several times as much as one of queries. It is measured on a text, a
//! role at a time. The best plan for a damage is then that in which every weight pays the same price
//! for a byte; its damage is measured, and the price corrected.

use crate::event::Event;
use crate::goal::Goal;
use crate::in_order::in_order;
use crate::job::Job;
use crate::quantization::{Decisions, Quantization};
use crate::references::{Item, Weight, collect};
use crate::request::{CalibrationChoice, ConvertRequest};
use crate::scratch;
use crate::sizes::weight_bytes;
use crate::trial::Trial;
use crate::weights::BUDGET;
use crate::work::Work;
use anemll_calibration::{Judge, Quality};
use anemll_codes as codes;
use anemll_plugin_api::data::Decision;
use anemll_plugin_api::{Error, Result};
use anemll_services::check_cancelled;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// Plans that are made and measured before the last is taken.
const TRIES: usize = 5;
/// A damage of at least this share of what is allowed is close enough.
const CLOSE: f64 = 0.85;
/// What is aimed for, as a share of what is allowed: on another text it may be more.
const SAFE: f64 = 0.84;
/// Steps in which a price is found.
const STEPS: usize = 60;
/// Bits of an element from which on the damages of several weights add up. Plans with fewer did more
/// damage than was foretold, and were larger in the end (SmolLM2-135M: 5.0 bits a weight, against 4.8
/// at the same divergence).
const ADDS_UP: u64 = 4;

/// One thing that could become of a weight.
#[derive(Debug, Clone)]
struct Choice {
    bytes: u64,
    /// The error of its products, as a share.
    error: f64,
    /// None for float16.
    decision: Option<Decision>,
}

/// A weight with its choices, from the fewest bytes to the most; one is float16, without an error.
#[derive(Debug, Clone)]
struct Candidate {
    id: String,
    role: String,
    elements: u64,
    choices: Vec<Choice>,
}

impl Candidate {
    /// Without the choices of so few bits that damages do not add up.
    fn cautious(&self) -> Self {
        let mut careful = self.clone();
        careful.choices.retain(|choice| choice.bytes * 8 >= self.elements * ADDS_UP);
        careful
    }
}

/// What a unit of error in the weights of each role does to the model, in nats.
type Harm = BTreeMap<String, f64>;

/// A plan: the place of each candidate's choice.
type Taken = Vec<usize>;

impl Job<'_> {
    /// Whether the quantizer leaves bits to measures, and none were made.
    pub(crate) fn leaves_bits_open(&self) -> bool {
        let undecided = self.quantization.as_ref().is_some_and(|one| !one.is_decided());
        undecided && self.settings.scheme.open && self.sentence.is_none()
    }

    /// Chooses bits where the quantizer leaves that to measures, and they can be made.
    pub(crate) fn choose_bits(&self, work: &Work<'_>) -> Result<()> {
        let Some(quantization) = &self.quantization else { return Ok(()) };
        if !self.leaves_bits_open() {
            return Ok(());
        }
        let Some(statistics) = quantization.statistics() else {
            let text = "without a calibration bits cannot be measured: the quantizer's usual ones are taken";
            (work.show)(&Event::Note { text });
            return Ok(());
        };
        let Some(judge) = Judge::read(statistics.file())? else {
            return Err(Error::new(
                codes::STATISTICS_INVALID,
                "the statistics have no text by which bits could be chosen",
            )
            .with_at(statistics.file().at().to_owned())
            .with_hint("calibrate again with `anemll calibrate`, or name the bits with --lut"));
        };
        let candidates = self.candidates(work, quantization)?;
        let measure = Measure {
            job: self,
            work,
            judge: judge.choosing(),
            statistics: PathBuf::from(statistics.file().at()),
        };
        let careful: Vec<Candidate> = candidates.iter().map(Candidate::cautious).collect();
        let elements: u64 = candidates.iter().map(|one| one.elements).sum();
        let most = match self.arguments.goal {
            Goal::Divergence(_) => u64::MAX,
            Goal::Bits(bits) => (bits * elements as f64 / 8.0) as u64,
            Goal::Bytes(bytes) => bytes,
        };
        // Where there is no room for care, any bits are better than none.
        let candidates = if least_bytes(&careful) <= most { &careful } else { &candidates };
        let taken = match self.arguments.goal {
            Goal::Divergence(most) => measure.smallest(&careful, most)?,
            Goal::Bits(_) | Goal::Bytes(_) => measure.within(candidates, &careful, most)?,
        };
        (work.show)(&Event::Note { text: &told(candidates, &taken) });
        quantization.decide(decisions(candidates, &taken));
        Ok(())
    }

    /// All weights that have choices, with the error of each.
    fn candidates(&self, work: &Work<'_>, quantization: &Quantization) -> Result<Vec<Candidate>> {
        let mut all: BTreeMap<String, (Weight, Vec<Decision>)> = BTreeMap::new();
        for file in &self.layout.weight_files {
            let members = work.members(file)?;
            let items = collect(&members)?;
            let mut choices =
                quantization.choices(&self.settings.outline, &items, &members, self.host)?;
            for (_, item) in items {
                let Item::Weight(weight) = item else { continue };
                if let Some(found) = choices.remove(&weight.id) {
                    all.entry(weight.id.clone()).or_insert((*weight, found));
                }
            }
        }
        let all: Vec<(Weight, Vec<Decision>)> = all.into_values().collect();
        let weights = &work.weights;
        let total = all.len() as u64;
        let mut candidates = Vec::new();
        let prepare = |at: usize| {
            check_cancelled()?;
            let (weight, decisions) = &all[at];
            weights.candidate(quantization, weight, decisions)
        };
        let sizes: Vec<u64> = all.iter().map(|(weight, _)| elements(weight) * 2).collect();
        in_order(&sizes, BUDGET, prepare, |_, candidate: Candidate| {
            candidates.push(candidate);
            let done = candidates.len() as u64;
            (work.show)(&Event::Measure { what: "trying bits", unit: "weights", done, total });
            Ok(())
        })?;
        Ok(candidates)
    }
}

fn elements(weight: &Weight) -> u64 {
    weight.shape.iter().product()
}

/// The kind of a role: all matrices of attention are one, all of the MLP another.
fn kind(role: &str) -> &str {
    role.split('.').next().unwrap_or(role)
}

impl crate::weights::WeightJob<'_> {
    /// What could become of a weight: each choice with its bytes and its error, and float16.
    fn candidate(
        &self,
        quantization: &Quantization,
        weight: &Weight,
        decisions: &[Decision],
    ) -> Result<Candidate> {
        let encoded = decisions.iter().filter(|decision| decision.encoding.is_some());
        let encoded: Vec<&Decision> = encoded.collect();
        let errors = self.errors_of(quantization, weight, &encoded)?;
        let choice = |error, decision: Option<&Decision>| {
            let bytes = weight_bytes(&weight.shape, decision);
            Choice { bytes, error, decision: decision.cloned() }
        };
        let mut choices = vec![choice(0.0, None)];
        choices
            .extend(errors.into_iter().zip(encoded).map(|(error, one)| choice(error, Some(one))));
        choices.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.error.total_cmp(&b.error)));
        let role = weight.reference.role.clone();
        Ok(Candidate { id: weight.id.clone(), role, elements: elements(weight), choices })
    }
}

/// Makes plans and measures what they do.
struct Measure<'a> {
    job: &'a Job<'a>,
    work: &'a Work<'a>,
    judge: Judge,
    statistics: PathBuf,
}

impl Measure<'_> {
    /// The smallest plan whose divergence is at most `most`.
    fn smallest(&self, candidates: &[Candidate], most: f64) -> Result<Taken> {
        let harm = self.harm(candidates)?;
        let most = most * SAFE;
        let mut tried: Vec<Tried> = Vec::new();
        let mut aim = most;
        for _ in 0..TRIES {
            let taken = search(candidates, &harm, Bound::Damage(aim));
            let kl = self.quality(&decisions(candidates, &taken), "measuring a plan")?.kl;
            let bytes = bytes(candidates, &taken);
            tracing::info!("plan of {bytes} bytes: KL {kl:.4}");
            // NaN: as far from the goal as can be.
            let kl = if kl.is_finite() { kl.max(1e-6) } else { f64::MAX };
            tried.push(Tried { aim, kl, bytes, taken });
            if (CLOSE * most..=most).contains(&kl) {
                break;
            }
            aim = next_aim(&tried, most);
        }
        // Of those that keep to it the smallest, else the nearest.
        let order = |one: &Tried, other: &Tried| {
            let (far, also) = (one.kl > most, other.kl > most);
            let nearer = one.kl.total_cmp(&other.kl);
            far.cmp(&also).then(if far { nearer } else { one.bytes.cmp(&other.bytes) })
        };
        let best = tried.into_iter().min_by(order);
        Ok(best.map_or_else(|| vec![0; candidates.len()], |best| best.taken))
    }

    /// The best plan of at most so many bytes. What an error does is measured with the choices of
    /// `careful`.
    fn within(&self, candidates: &[Candidate], careful: &[Candidate], most: u64) -> Result<Taken> {
        let least = least_bytes(candidates);
        if least > most {
            let size = anemll_files::size;
            return Err(Error::new(
                codes::USAGE,
                format!(
                    "no plan is as small as {}: the least takes {} of weights",
                    size(most),
                    size(least)
                ),
            )
            .with_hint("allow more with --budget-mb or --target-bits, or take a smaller model"));
        }
        let harm = self.harm(careful)?;
        Ok(search(candidates, &harm, Bound::Bytes(most)))
    }

    /// What an error in the weights of each role does to the model.
    fn harm(&self, candidates: &[Candidate]) -> Result<Harm> {
        let roles: BTreeSet<&str> = candidates.iter().map(|one| one.role.as_str()).collect();
        let mut harm = Harm::new();
        for role in roles {
            check_cancelled()?;
            let mut error = 0.0;
            let taken: Taken = candidates
                .iter()
                .map(|candidate| {
                    let last = candidate.choices.len() - 1;
                    if candidate.role != role {
                        return last;
                    }
                    // The second: so small errors add up, and can still be seen.
                    let place = 1.min(last);
                    error += candidate.choices[place].error;
                    place
                })
                .collect();
            let what = format!("measuring {role}");
            let quality = self.quality(&decisions(candidates, &taken), &what)?;
            tracing::info!("{role}: KL {:.4} by an error of {error:.4}", quality.kl);
            let damage = if quality.kl.is_finite() { quality.kl.max(1e-5) } else { 1e3 };
            harm.insert(role.to_owned(), damage / error.max(1e-9));
        }
        Ok(harm)
    }

    /// How far a plan takes the model from the original.
    fn quality(&self, decisions: &Decisions, what: &str) -> Result<Quality> {
        let job = self.job;
        let place = scratch::place(job.arguments, &job.description);
        let request = ConvertRequest {
            model: self.work.weights.source.directory.path().to_owned(),
            combiner: job.settings.combiner.clone(),
            chunk: job.settings.chunks.map(crate::request::ChunkCount::Count),
            calibration: CalibrationChoice::File(self.statistics.clone()),
            decided: Some(Arc::new(decisions.clone())),
            kept: self.work.weights.source.kept.cloned(),
            ..job.arguments.clone()
        };
        let total = self.judge.tokens();
        let show = |done| (self.work.show)(&Event::Measure { what, unit: "tokens", done, total });
        show(0);
        let mut trial = Trial::make(&request, &place, job.plugins, job.host, &|_| ())?;
        self.judge.judge(&mut trial.engine, &show)
    }
}

/// A plan that was measured.
struct Tried {
    /// The damage that it was to do.
    aim: f64,
    /// What it does.
    kl: f64,
    bytes: u64,
    taken: Taken,
}

/// What to aim for next: the damages of single roles and of a plan follow a power of each other, of
/// which the last two plans tell.
fn next_aim(tried: &[Tried], most: f64) -> f64 {
    let Some(last) = tried.last() else { return most };
    let power = match tried {
        [.., before, last] if before.aim != last.aim => {
            (before.kl / last.kl).ln() / (before.aim / last.aim).ln()
        }
        _ => 1.0,
    };
    let power = if power.is_finite() { power.clamp(0.3, 2.0) } else { 1.0 };
    let wanted = f64::midpoint(CLOSE * most, most);
    last.aim * (wanted / last.kl).powf(1.0 / power).clamp(0.05, 20.0)
}

/// What a plan may come to at most.
#[derive(Debug, Clone, Copy)]
enum Bound {
    Bytes(u64),
    Damage(f64),
}

/// The plan in which all weights pay the same price for a byte: the highest price that does no more
/// damage, or the lowest that takes no more bytes.
fn search(candidates: &[Candidate], harm: &Harm, bound: Bound) -> Taken {
    let at_price = |price: f64| -> Taken {
        candidates
            .iter()
            .map(|candidate| {
                let harm = harm.get(&candidate.role).copied().unwrap_or(0.0);
                let cost = |choice: &Choice| harm * choice.error + price * choice.bytes as f64;
                let costs = candidate.choices.iter().map(cost).enumerate();
                costs.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(place, _)| place)
            })
            .collect()
    };
    // Prices in nats a byte, as powers of two: from all bits to none.
    let (mut low, mut high) = (-120.0_f64, 20.0_f64);
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        let taken = at_price(middle.exp2());
        // A higher price takes fewer bytes and does more damage.
        let may_rise = match bound {
            Bound::Damage(most) => damage(candidates, harm, &taken) <= most,
            Bound::Bytes(most) => bytes(candidates, &taken) > most,
        };
        if may_rise {
            low = middle;
        } else {
            high = middle;
        }
    }
    let price = match bound {
        Bound::Damage(_) => low,
        Bound::Bytes(_) => high,
    };
    at_price(price.exp2())
}

/// Bytes of the smallest plan.
fn least_bytes(candidates: &[Candidate]) -> u64 {
    bytes(candidates, &vec![0; candidates.len()])
}

fn bytes(candidates: &[Candidate], taken: &Taken) -> u64 {
    candidates.iter().zip(taken).map(|(one, place)| one.choices[*place].bytes).sum()
}

fn damage(candidates: &[Candidate], harm: &Harm, taken: &Taken) -> f64 {
    let each = candidates.iter().zip(taken);
    each.map(|(one, place)| harm.get(&one.role).copied().unwrap_or(0.0) * one.choices[*place].error)
        .sum()
}

fn decisions(candidates: &[Candidate], taken: &Taken) -> Decisions {
    let each = candidates.iter().zip(taken);
    each.map(|(one, place)| (one.id.clone(), one.choices[*place].decision.clone())).collect()
}

/// What was chosen, for people.
fn told(candidates: &[Candidate], taken: &Taken) -> String {
    let mut kinds: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (one, place) in candidates.iter().zip(taken) {
        let (bytes, elements) = kinds.entry(kind(&one.role)).or_default();
        *bytes += one.choices[*place].bytes;
        *elements += one.elements;
    }
    let bits = |(bytes, elements): (u64, u64)| 8.0 * bytes as f64 / elements.max(1) as f64;
    let all = kinds.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let each: Vec<String> =
        kinds.iter().map(|(kind, sums)| format!("{kind} {:.1}", bits(*sums))).collect();
    format!(
        "bits by measured damage: {:.2} a weight, tables included ({})",
        bits(all),
        each.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(role: &str, errors: [f64; 3]) -> Candidate {
        let choice = |(bytes, error)| Choice { bytes, error, decision: None };
        let choices = [100, 200, 400].into_iter().zip(errors).map(choice).collect();
        Candidate { id: role.to_owned(), role: role.to_owned(), elements: 200, choices }
    }

    #[test]
    fn bytes_go_where_they_help_most() {
        let candidates = [
            candidate("attention.v", [0.5, 0.1, 0.0]),
            candidate("attention.q", [0.5, 0.1, 0.0]),
            candidate("head", [0.5, 0.1, 0.0]),
        ];
        let harm = Harm::from([
            ("attention.v".to_owned(), 1.0),
            ("attention.q".to_owned(), 0.1),
            ("head".to_owned(), 10.0),
        ]);
        let within = |most: u64| search(&candidates, &harm, Bound::Bytes(most));
        assert_eq!(within(300), [0, 0, 0]);
        assert_eq!(within(400), [0, 0, 1]);
        assert_eq!(within(600), [0, 0, 2]);
        assert_eq!(within(700), [1, 0, 2]);
        assert_eq!(within(u64::MAX), [2, 2, 2]);
        let damaged = |most: f64| search(&candidates, &harm, Bound::Damage(most));
        assert_eq!(damaged(0.0), [2, 2, 2]);
        assert_eq!(damaged(0.6), [0, 0, 2]);
        assert_eq!(damaged(0.2), [1, 0, 2]);
        assert_eq!(damaged(100.0), [0, 0, 0]);
    }

    #[test]
    fn care_leaves_out_what_has_few_bits() {
        let kept = |elements| -> Vec<u64> {
            let all = Candidate { elements, ..candidate("mlp", [0.2, 0.02, 0.0]) };
            all.cautious().choices.iter().map(|choice| choice.bytes).collect()
        };
        assert_eq!(kept(200), [100, 200, 400]);
        assert_eq!(kept(201), [200, 400]);
        assert_eq!(kept(500), [400]);
        let all = [candidate("mlp", [0.2, 0.02, 0.0]), candidate("head", [0.01, 0.001, 0.0])];
        assert_eq!(least_bytes(&all), 200);
    }

    #[test]
    fn aims_follow_what_was_measured() {
        let tried = |aim: f64, kl: f64| Tried { aim, kl, bytes: 0, taken: Vec::new() };
        let first = next_aim(&[tried(0.1, 0.2)], 0.1);
        assert!((first - 0.1 * 0.925 / 2.0).abs() < 1e-9, "{first}");
        // KL falls with the root of what is aimed for.
        let second = next_aim(&[tried(0.1, 0.2), tried(0.025, 0.1)], 0.08);
        assert!((second - 0.025 * (0.074_f64 / 0.1).powi(2)).abs() < 1e-9, "{second}");
        assert!(next_aim(&[tried(0.1, f64::MAX)], 0.1) >= 0.004);
    }

    #[test]
    fn what_was_chosen_is_told_in_bits() {
        let roles = ["attention.q", "attention.v", "mlp.up"];
        let candidates = roles.map(|role| candidate(role, [0.5, 0.1, 0.0]));
        assert_eq!(
            told(&candidates, &vec![0, 1, 2]),
            "bits by measured damage: 9.33 a weight, tables included (attention 6.0, mlp 16.0)"
        );
    }
}
