//! Empty thoughts, which models write that were asked for none.

/// Takes `<think></think>`, with nothing but spaces inside, from the beginning of an answer.
#[derive(Debug)]
pub(crate) struct EmptyThought {
    held: String,
    active: bool,
}

impl EmptyThought {
    /// A filter; one that is not active changes nothing.
    pub(crate) fn new(active: bool) -> Self {
        Self { held: String::new(), active }
    }

    /// What is certain after more text.
    pub(crate) fn push(&mut self, text: &str) -> String {
        if !self.active {
            return text.to_owned();
        }
        self.held += text;
        let mut rest = self.held.trim_start();
        for tag in ["<think>", "</think>"] {
            if tag.starts_with(rest) {
                return String::new();
            }
            match rest.strip_prefix(tag) {
                Some(after) => rest = after.trim_start(),
                None => return self.finish(),
            }
        }
        if rest.is_empty() {
            return String::new();
        }
        let answer = rest.to_owned();
        self.held.clear();
        self.active = false;
        answer
    }

    /// What was held back, when nothing more comes.
    pub(crate) fn finish(&mut self) -> String {
        self.active = false;
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(parts: &[&str]) -> String {
        let mut filter = EmptyThought::new(true);
        let mut text: String = parts.iter().map(|part| filter.push(part)).collect();
        text += &filter.finish();
        text
    }

    #[test]
    fn only_an_empty_thought_at_the_beginning_goes() {
        assert_eq!(
            filtered(&["<th", "ink>\n\n</thi", "nk>\n", "\nYes <think></think>"]),
            "Yes <think></think>"
        );
        assert_eq!(filtered(&["<think>", "Hm", "</think>Yes"]), "<think>Hm</think>Yes");
        assert_eq!(filtered(&[" <", "b> plain"]), " <b> plain");
        assert_eq!(filtered(&["<thin"]), "<thin");
        assert_eq!(filtered(&[]), "");
    }
}
