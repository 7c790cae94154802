//! Texts that end an answer, also where several tokens make one.

/// Looks for texts in a text that comes piece by piece.
#[derive(Debug)]
pub(crate) struct StopTexts {
    /// None is empty.
    texts: Vec<String>,
    /// The end of what came, as far as it may begin one of the texts.
    held: String,
    found: bool,
}

impl StopTexts {
    /// An empty text would end every answer before it begins, so it counts as none.
    pub(crate) fn new(texts: &[String]) -> Self {
        let texts = texts.iter().filter(|text| !text.is_empty()).cloned().collect();
        Self { texts, held: String::new(), found: false }
    }

    /// Whether one of the texts came; then nothing more is let through.
    pub(crate) fn found(&self) -> bool {
        self.found
    }

    /// What surely belongs to the answer after more text: nothing from the first text on that is
    /// looked for, and nothing that may become one.
    pub(crate) fn push(&mut self, text: &str) -> String {
        if self.found {
            return String::new();
        }
        self.held += text;
        if let Some(begin) = self.texts.iter().filter_map(|stop| self.held.find(stop)).min() {
            self.found = true;
            self.held.truncate(begin);
            return std::mem::take(&mut self.held);
        }
        let pending = self.texts.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let kept = self.held.split_off(self.held.len() - pending);
        std::mem::replace(&mut self.held, kept)
    }

    /// What was held back, when nothing more comes.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes at the end of `text` that are a beginning of `stop`, but not all of it.
fn overlap(text: &str, stop: &str) -> usize {
    let mut ends = stop.char_indices().map(|(end, _)| end).rev();
    ends.find(|end| text.ends_with(&stop[..*end])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text that is let through of each piece, and of the end.
    fn passed(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut texts = StopTexts::new(&stops);
        let mut passed: Vec<String> = pieces.iter().map(|piece| texts.push(piece)).collect();
        passed.push(texts.finish());
        (passed, texts.found())
    }

    #[test]
    fn a_text_over_several_pieces_is_found_and_not_shown() {
        let (texts, found) = passed(&["\nUser:"], &["Yes.", "\n", "Us", "er: no", "more"]);
        assert_eq!(texts, ["Yes.", "", "", "", "", ""]);
        assert!(found);
    }

    #[test]
    fn what_only_looked_like_one_is_shown() {
        let (texts, found) = passed(&["###", "END"], &["a#", "#b E", "N", "d"]);
        assert_eq!(texts, ["a", "##b ", "", "ENd", ""]);
        assert!(!found);
        assert_eq!(passed(&["###"], &["a##"]).0, ["a", "##"]);
        assert_eq!(
            passed(&["aab"], &["aa", "ab", "c"]),
            (vec!["".into(), "a".into(), "".into(), "".into()], true)
        );
    }

    #[test]
    fn of_several_the_first_in_the_text_counts() {
        let (texts, _) = passed(&["late", "soon"], &["so", "on late"]);
        assert_eq!(texts.concat(), "");
        let (texts, _) = passed(&["é", "xy"], &["aé", "b"]);
        assert_eq!(texts.concat(), "a");
    }

    #[test]
    fn without_texts_everything_passes_at_once() {
        for stops in [&[][..], &[""]] {
            assert_eq!(
                passed(stops, &["a", "b"]),
                (vec!["a".into(), "b".into(), "".into()], false)
            );
        }
    }
}
