//! What can be typed beside questions: words with a slash before them.

/// A line that was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typed<'a> {
    /// For the model.
    Question(&'a str),
    /// What can be typed.
    Help,
    /// The conversation begins anew.
    Reset,
    /// Another system message; an empty one asks for the one there is.
    System(&'a str),
    /// The conversation goes to a file.
    Save(&'a str),
    /// The end.
    Exit,
    /// A command that there is not.
    Unknown(&'a str),
}

/// For `/help`.
pub(crate) const HELP: &str = "\
/help            this text
/reset           begin anew; the system message stays
/system TEXT     have this system message from now on; alone: show it; `/system none`: have none
/save FILE       write the conversation to a new file, as JSON
/exit            end, as Ctrl-D does
Alt-Enter, or a backslash at the end of a line, begins another line of the same message.
Pasted lines are one message. The arrow keys call back what was typed.
Ctrl-C ends an answer; twice, the program.
A message that begins with a slash and one word is sent with a space before it.";

impl<'a> Typed<'a> {
    /// What a line means. A command is a slash and small letters, alone or before a space, so that a
    /// path is none.
    pub(crate) fn of(line: &'a str) -> Self {
        let Some(rest) = line.strip_prefix('/') else { return Self::Question(line) };
        let (word, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return Self::Question(line);
        }
        let argument = argument.trim();
        match word {
            "help" => Self::Help,
            "reset" => Self::Reset,
            "system" => Self::System(argument),
            "save" => Self::Save(argument),
            "exit" | "quit" => Self::Exit,
            _ => Self::Unknown(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_words_behind_a_slash() {
        for (line, meaning) in [
            ("/help", Typed::Help),
            ("/help ", Typed::Help),
            ("/system  Be brief. ", Typed::System("Be brief.")),
            ("/system two\nlines", Typed::System("two\nlines")),
            ("/save talk.json", Typed::Save("talk.json")),
            ("/quit", Typed::Exit),
            ("/helm", Typed::Unknown("helm")),
            ("/etc/hosts is what?", Typed::Question("/etc/hosts is what?")),
            ("/", Typed::Question("/")),
            ("/ 2", Typed::Question("/ 2")),
            (" /exit", Typed::Question(" /exit")),
            ("what is /exit", Typed::Question("what is /exit")),
        ] {
            assert_eq!(Typed::of(line), meaning, "{line:?}");
        }
        assert!(HELP.lines().all(|line| line.len() < 110), "it is read at 80 columns, wrapped");
    }
}
