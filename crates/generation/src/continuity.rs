//! Where tokens can go on, as the states have it.
//!
//! Caches of the whole context have what every token sees, and a mask hides the rest: tokens go on
//! anywhere. A state that tokens replace goes on where the last ones ended. A ring holds the last
//! positions alone: tokens go on where what they see of it was not overwritten.

use anemll_codes as codes;
use anemll_conversion::Ring;
use anemll_plugin_api::Error;

/// Where the tokens of a text were run, and what follows from it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Continuity {
    /// Whether there are states that tokens replace.
    recurrent: bool,
    rings: Vec<Ring>,
    /// The position at which states that tokens replace can go on, unless padding or an error spoiled
    /// them.
    next: Option<u64>,
    /// One past the last position that was written since a text began, padding included.
    end: u64,
}

impl Continuity {
    pub(crate) fn new(recurrent: bool, rings: impl Iterator<Item = Ring>) -> Self {
        Self { recurrent, rings: rings.collect(), next: None, end: 0 }
    }

    /// Whether there are states that tokens replace.
    pub(crate) const fn is_recurrent(&self) -> bool {
        self.recurrent
    }

    /// All states are empty.
    pub(crate) fn reset(&mut self) {
        self.next = None;
        self.end = 0;
    }

    /// Whether tokens can be run from this position on.
    pub(crate) fn allows(&self, position: u64) -> bool {
        let replaced = self.recurrent && self.next != Some(position);
        position == 0 || (!replaced && self.earliest() <= position)
    }

    /// Checks that tokens can be run from this position on.
    ///
    /// # Errors
    /// [`codes::EVALUATION_INPUT`] with the positions where they can.
    pub(crate) fn check(&self, position: u64) -> Result<(), Error> {
        if self.allows(position) {
            return Ok(());
        }
        let where_to = match (self.recurrent, self.next) {
            (true, Some(next)) => format!("only at {next}, where the last ones ended, or at 0"),
            (true, None) => "only at 0".to_owned(),
            (false, _) => format!("from {} on, or at 0", self.earliest()),
        };
        Err(Error::new(
            codes::EVALUATION_INPUT,
            format!("tokens at position {position} cannot be run: this model goes on {where_to}"),
        )
        .with_hint("its states hold the last tokens alone; run the text again from its beginning"))
    }

    /// Tokens will be run from `position` to before `end`, padding included.
    pub(crate) fn begin(&mut self, position: u64, end: u64) {
        self.next = None;
        self.end = if position == 0 { end } else { self.end.max(end) };
    }

    /// They were run; where they were not padded, the last one stands right before `next`.
    pub(crate) fn finish(&mut self, next: Option<u64>) {
        self.next = next;
    }

    /// The first position whose tokens find in all rings what they see: the last `window` positions,
    /// of which the token's own is yet to be written. A ring that was not gone around has all.
    fn earliest(&self) -> u64 {
        let of_ring = |ring: &Ring| match self.end <= ring.positions {
            true => 0,
            false => (self.end + ring.window).saturating_sub(ring.positions + 1),
        };
        self.rings.iter().map(of_ring).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(continuity: &mut Continuity, position: u64, end: u64) {
        continuity.check(position).unwrap();
        continuity.begin(position, end);
        continuity.finish(Some(end));
    }

    /// What a ring really holds, position by position, against what is said of it.
    #[test]
    fn a_ring_goes_on_where_it_has_what_is_seen() {
        for (window, batch, positions) in [(3_u64, 4_u64, 7_u64), (5, 2, 8), (4, 4, 12)] {
            let ring = Ring { positions, window };
            let mut continuity = Continuity::new(false, [ring].into_iter());
            let mut held = vec![None; positions as usize];
            // Forwards in single tokens and batches, and back as far as it goes.
            let mut position = 0;
            for step in 0..200_u64 {
                let end = position + if step % 3 == 0 { batch } else { 1 };
                run(&mut continuity, position, end);
                for written in position..end {
                    held[(written % positions) as usize] = Some(written);
                }
                for place in 1..=end {
                    let mut seen = place.saturating_sub(window - 1)..place;
                    let has = seen.all(|one| held[(one % positions) as usize] == Some(one));
                    assert_eq!(continuity.allows(place), has, "{place} after {end}");
                }
                let back = end.saturating_sub(step % 5);
                position = if continuity.allows(back) { back } else { end };
            }
            assert!(continuity.allows(0));
        }
    }

    #[test]
    fn states_that_tokens_replace_go_on_at_their_end() {
        let mut continuity = Continuity::new(true, std::iter::empty());
        run(&mut continuity, 0, 8);
        assert!(continuity.allows(8) && !continuity.allows(7) && continuity.allows(0));
        continuity.begin(8, 16);
        continuity.finish(None);
        assert!(continuity.check(12).unwrap_err().message.ends_with("goes on only at 0"));
        continuity.reset();
        assert!(continuity.allows(0));
    }

    #[test]
    fn whole_caches_go_on_anywhere() {
        let mut continuity = Continuity::new(false, std::iter::empty());
        run(&mut continuity, 0, 100);
        assert!((0..100).all(|position| continuity.allows(position)));
    }
}
