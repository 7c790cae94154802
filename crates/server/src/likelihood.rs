//! How likely tokens were: before temperature and filters, as the model has it.

/// A chosen token with its probability, and the likeliest at its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Likelihood {
    /// The token.
    pub(crate) token: u32,
    /// Natural logarithm of its probability.
    pub(crate) value: f32,
    /// The likeliest tokens with theirs, most likely first.
    pub(crate) top: Vec<(u32, f32)>,
}

impl Likelihood {
    /// Of a token that was chosen where the model gave these logits, with `count` of the likeliest.
    pub(crate) fn new(logits: &[f32], token: u32, count: usize) -> Self {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
        let value = |logit: f32| (f64::from(logit - largest) - sum.ln()) as f32;
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        let descending = |left: &u32, right: &u32| {
            let logit = |token: &u32| logits[*token as usize];
            logit(right).total_cmp(&logit(left)).then(left.cmp(right))
        };
        let count = count.min(order.len());
        if count < order.len() {
            order.select_nth_unstable_by(count, descending);
            order.truncate(count);
        }
        order.sort_unstable_by(descending);
        let top = order.iter().map(|token| (*token, value(logits[*token as usize]))).collect();
        let chosen = logits.get(token as usize).map_or(f32::NEG_INFINITY, |logit| value(*logit));
        Self { token, value: chosen, top }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_of_probabilities_and_the_likeliest() {
        let logits = [0.25_f32.ln() + 3.0, 0.5_f32.ln() + 3.0, 0.25_f32.ln() + 3.0];
        let likelihood = Likelihood::new(&logits, 2, 2);
        assert!((likelihood.value - 0.25_f32.ln()).abs() < 1e-6);
        assert_eq!(likelihood.top.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [1, 0]);
        assert!((likelihood.top[0].1 - 0.5_f32.ln()).abs() < 1e-6);
        assert!(Likelihood::new(&logits, 0, 0).top.is_empty());
        assert_eq!(Likelihood::new(&logits, 0, 9).top.len(), 3);
    }
}
