//! Paths of the machine that converted, taken out of what is published.

/// A text in which absolute paths have only their last part: `/home/me/SmolLM2` becomes `SmolLM2`.
pub(crate) fn redact(text: &str) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut word = String::new();
    let mut quote = None;
    for character in text.chars() {
        let ends = match quote {
            Some(mark) => character == mark,
            None => character.is_whitespace() || matches!(character, '"' | '\'' | '=' | ','),
        };
        if !ends {
            word.push(character);
            continue;
        }
        redacted.push_str(last_part(&word));
        word.clear();
        redacted.push(character);
        quote = match quote {
            None if matches!(character, '"' | '\'') => Some(character),
            _ => None,
        };
    }
    redacted.push_str(last_part(&word));
    redacted
}

fn last_part(word: &str) -> &str {
    let drive = word.as_bytes().get(1) == Some(&b':')
        && word.as_bytes()[0].is_ascii_alphabetic()
        && matches!(word.as_bytes().get(2), Some(b'\\' | b'/'));
    let absolute = word.starts_with('/') || word.starts_with("~/") || word.starts_with("\\\\");
    if !absolute && !drive {
        return word;
    }
    let trimmed = word.trim_end_matches(['/', '\\']);
    trimmed.rsplit(['/', '\\']).next().unwrap_or(trimmed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_part_of_a_path_is_left() {
        for (text, left) in [
            (
                "anemll convert --model /home/me/m --output ./o",
                "anemll convert --model m --output ./o",
            ),
            ("--model='/home/my name/m x/' a", "--model='m x' a"),
            ("# model_path: /Users/me/Models/Qwen3", "# model_path: Qwen3"),
            (r#""C:\Users\me\m" ~/x \\server\share\y"#, r#""m" x y"#),
            ("Qwen/Qwen3-0.6B 4,8 a/b", "Qwen/Qwen3-0.6B 4,8 a/b"),
        ] {
            assert_eq!(redact(text), left, "{text}");
        }
    }
}
