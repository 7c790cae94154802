//! What makes tokens less likely that occurred already. All of it works in place on the logits of
//! one token, before any temperature.

use std::collections::{BTreeMap, BTreeSet};

/// The tokens before the one that is chosen.
#[derive(Debug, Clone, Copy, Default)]
pub struct History<'a> {
    /// Prompt and answer so far.
    pub tokens: &'a [u32],
    /// How many of them are the prompt's.
    pub prompt: usize,
}

impl<'a> History<'a> {
    /// The tokens of the answer alone.
    pub fn generated(&self) -> &'a [u32] {
        self.tokens.get(self.prompt..).unwrap_or_default()
    }
}

/// Makes tokens that occurred less likely: logits above 0 are divided by `penalty`, those below 0
/// multiplied, once for each token (Keskar et al. 2019, "CTRL", section 4.1; as
/// `RepetitionPenaltyLogitsProcessor` of transformers).
pub fn penalize_repetition(logits: &mut [f32], occurred: &[u32], penalty: f32) {
    if penalty == 1.0 {
        return;
    }
    for token in occurred.iter().collect::<BTreeSet<_>>() {
        if let Some(logit) = logits.get_mut(*token as usize) {
            *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
        }
    }
}

/// Takes from the logit of each token that was generated `presence`, and `frequency` as many times
/// as it was generated (as OpenAI's API defines `presence_penalty` and `frequency_penalty`; the
/// prompt does not count).
pub fn penalize_presence_and_frequency(
    logits: &mut [f32],
    generated: &[u32],
    presence: f32,
    frequency: f32,
) {
    if presence == 0.0 && frequency == 0.0 {
        return;
    }
    let mut counts = BTreeMap::<u32, u32>::new();
    for token in generated {
        *counts.entry(*token).or_default() += 1;
    }
    for (token, count) in counts {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit -= frequency * count as f32 + presence;
        }
    }
}

/// Takes away the tokens that would end a sequence of `count` tokens which occurred already.
pub fn ban_repeated_sequences(logits: &mut [f32], occurred: &[u32], count: usize) {
    if count == 0 || occurred.len() + 1 < count {
        return;
    }
    let last = &occurred[occurred.len() + 1 - count..];
    for sequence in occurred.windows(count) {
        if let Some((end, beginning)) = sequence.split_last()
            && beginning == last
            && let Some(logit) = logits.get_mut(*end as usize)
        {
            *logit = f32::NEG_INFINITY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_occurred_are_penalized_once() {
        let mut logits = [2.0, -2.0, 3.0, 0.0];
        penalize_repetition(&mut logits, &[1, 0, 1, 3, 9], 2.0);
        assert_eq!(logits, [1.0, -4.0, 3.0, 0.0]);
    }

    #[test]
    fn presence_counts_once_and_frequency_each_time() {
        let mut logits = [2.0, -2.0, 3.0, 0.0, f32::NEG_INFINITY];
        penalize_presence_and_frequency(&mut logits, &[1, 0, 1, 4, 9], 0.5, 0.25);
        assert_eq!(logits, [1.25, -3.0, 3.0, 0.0, f32::NEG_INFINITY]);
        // Negative ones make it more likely.
        penalize_presence_and_frequency(&mut logits, &[3, 3], 0.0, -1.0);
        assert_eq!(logits[3], 2.0);
    }

    #[test]
    fn the_prompt_is_no_part_of_what_was_generated() {
        let history = History { tokens: &[1, 2, 3], prompt: 2 };
        assert_eq!(history.generated(), [3]);
        assert_eq!(History { prompt: 7, ..history }.generated(), [] as [u32; 0]);
    }

    #[test]
    fn sequences_are_not_repeated() {
        let banned = |occurred: &[u32], count| {
            let mut logits = [0.0; 5];
            ban_repeated_sequences(&mut logits, occurred, count);
            (0..5).filter(|index| logits[*index] < 0.0).collect::<Vec<usize>>()
        };
        assert_eq!(banned(&[1, 2, 3, 1, 2], 3), [3]);
        assert_eq!(banned(&[1, 2, 3, 1, 2], 2), [3]);
        assert_eq!(banned(&[1, 2, 1, 3, 1], 2), [2, 3]);
        assert_eq!(banned(&[1, 2, 2], 1), [1, 2]);
        assert_eq!(banned(&[1, 2], 4), [] as [usize; 0]);
        assert_eq!(banned(&[], 0), [] as [usize; 0]);
    }
}
