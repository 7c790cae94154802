//! `explain`: what an error code or a lint rule is about, and what to do.

use super::{print, print_json};
use anemll_codes as codes;
use anemll_mil::Concern;
use anemll_mil::lint::{self, Rule};
use anemll_plugin_api::{Error, Result};
use anemll_terminal::{self as terminal, wrapped};
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// For `--help`.
pub const EXAMPLES: &str = "Examples:
  anemll explain ANE-080
  anemll explain A0503
  anemll explain";

/// What can be typed.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// A code such as A0503 or ANE-080; without one, all are listed.
    #[arg(value_name = "CODE")]
    pub code: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// [`codes::USAGE`] for a code that there is not.
pub fn run(arguments: &ExplainArguments) -> Result<()> {
    let Some(code) = &arguments.code else {
        return if arguments.json { print_json(&all_json()) } else { print(&all_text()) };
    };
    let code = code.trim().to_ascii_uppercase();
    let width = terminal::width();
    if let Some(rule) = lint::rule(&code) {
        return if arguments.json {
            print_json(&rule_json(rule))
        } else {
            print(&rule_text(rule, width))
        };
    }
    if let Some(found) = codes::explanation(&code) {
        return if arguments.json {
            print_json(&error_json(&found))
        } else {
            print(&error_text(&found, width))
        };
    }
    let shown: String = code.chars().take(40).collect();
    Err(Error::new(codes::USAGE, format!("no error or rule is called {shown:?}"))
        .with_hint(format!("near it are {}; `anemll explain` lists all", near(&code).join(", "))))
}

/// The three codes with the fewest changes to this one; of these the first in the list.
fn near(code: &str) -> Vec<&'static str> {
    let known = codes::ALL.iter().map(|(code, _)| *code).chain(lint::RULES.iter().map(|r| r.id));
    // Codes are short; of a longer text the beginning is enough.
    let code: String = code.chars().take(40).collect();
    let mut known: Vec<(usize, &str)> =
        known.map(|id| (strsim::levenshtein(&code, id), id)).collect();
    known.sort_by_key(|(distance, _)| *distance);
    known.into_iter().take(3).map(|(_, id)| id).collect()
}

fn paragraph(text: &mut String, head: &str, body: &str, width: Option<usize>) {
    let words = [head].into_iter().filter(|head| !head.is_empty()).chain(body.split(' '));
    *text += &wrapped(words, " ", 0, width);
}

fn error_text(found: &codes::Explanation, width: Option<usize>) -> String {
    let mut text = format!("{}: {}\n\n", found.code, found.title);
    paragraph(&mut text, "", found.meaning, width);
    text.push_str("\nCommon causes:\n");
    for cause in &found.causes {
        text += &wrapped(["-"].into_iter().chain(cause.split(' ')), " ", 2, width);
    }
    text.push('\n');
    paragraph(&mut text, "What to do:", found.remedy, width);
    text
}

fn error_json(found: &codes::Explanation) -> Value {
    json!({
        "code": found.code,
        "kind": "error",
        "title": found.title,
        "meaning": found.meaning,
        "causes": found.causes,
        "remedy": found.remedy,
    })
}

/// What the letters of a rule's evidence stand for.
fn evidence(letters: &str) -> String {
    let words: Vec<&str> = letters
        .chars()
        .map(|letter| match letter {
            'M' => "measured",
            'A' => "stated by Apple",
            'F' => "reported",
            _ => "inferred",
        })
        .collect();
    words.join(", ")
}

/// Whom a case of a rule concerns, in words.
fn concern(concern: Concern) -> String {
    match concern {
        Concern::Graph(why) => format!("the graph that `anemll convert` writes; accepted: {why}"),
        Concern::Model => "the sizes of the model".to_owned(),
        Concern::Options(flag) => format!("options of `anemll convert`; change it with {flag}"),
        Concern::Foreign => "packages of other tools".to_owned(),
    }
}

fn rule_text(rule: &Rule, width: Option<usize>) -> String {
    let mut text = format!("{}: {}\n\n", rule.id, rule.title);
    paragraph(&mut text, "", rule.reason, width);
    text.push('\n');
    for case in rule.cases {
        let line =
            format!("{}: {}. Concerns {}.", case.severity.name(), case.when, concern(case.concern));
        text += &wrapped(["-"].into_iter().chain(line.split(' ')), " ", 2, width);
    }
    text.push('\n');
    paragraph(&mut text, "What to do:", rule.remedy, width);
    text.push('\n');
    let sources = format!("({}) {}", evidence(rule.evidence), rule.sources);
    paragraph(&mut text, "Evidence", &sources, width);
    text
}

fn rule_json(rule: &Rule) -> Value {
    let cases: Vec<Value> = rule
        .cases
        .iter()
        .map(|case| {
            let (accepted, flag) = match case.concern {
                Concern::Graph(why) => (Some(why), None),
                Concern::Options(flag) => (None, Some(flag)),
                Concern::Model | Concern::Foreign => (None, None),
            };
            json!({
                "severity": case.severity.name(),
                "when": case.when,
                "concern": case.concern.name(),
                "accepted": accepted,
                "flag": flag,
            })
        })
        .collect();
    json!({
        "code": rule.id,
        "kind": "rule",
        "title": rule.title,
        "cases": cases,
        "reason": rule.reason,
        "evidence": rule.evidence,
        "sources": rule.sources,
        "remedy": rule.remedy,
    })
}

fn all_text() -> String {
    let mut text = "Errors\n".to_owned();
    for (code, title) in codes::ALL.iter() {
        let _ = writeln!(text, "  {code}    {title}");
    }
    text.push_str("\nRules of the Neural Engine lint\n");
    for rule in lint::RULES {
        let _ = writeln!(text, "  {}  {}", rule.id, rule.title);
    }
    text.push_str("\nanemll explain CODE says what one is about, and what to do.\n");
    text
}

fn all_json() -> Value {
    let one =
        |code: &str, kind: &str, title: &str| json!({"code": code, "kind": kind, "title": title});
    let errors = codes::ALL.iter().map(|(code, title)| one(code, "error", title));
    let rules = lint::RULES.iter().map(|rule| one(rule.id, "rule", rule.title));
    json!({ "codes": errors.chain(rules).collect::<Vec<_>>() })
}

/// The page docs/reference/errors.md.
pub fn errors_page() -> String {
    let mut text = String::from(
        "# Error codes\n\nMade from the lists in `plugin-api/src/codes.rs` and `crates/codes/src/lib.rs` and the \
         texts of `anemll explain`. A code keeps its meaning for ever.\n",
    );
    for (code, title) in codes::ALL.iter() {
        let _ = write!(text, "\n## {code}: {title}\n\n");
        let Some(found) = codes::explanation(code) else { continue };
        let _ =
            writeln!(text, "{}\n\nCommon causes: {}.\n", found.meaning, found.causes.join("; "));
        let _ = writeln!(text, "What to do: {}", found.remedy);
    }
    text
}

/// The page docs/reference/lint.md.
pub fn lint_page() -> String {
    let mut text = String::from(
        "# Rules of the Neural Engine lint\n\n\
         `anemll inspect --lint` names places of a program that Apple's Neural Engine would not like; \
         it needs no Mac. Nothing here makes a package invalid. A rule is broken in one of the ways \
         that its table lists, each with its severity:\n\n\
         - **error**: the model may not load, or may give wrong numbers;\n\
         - **warning**: an operation leaves the engine, or a limit of some devices is near;\n\
         - **performance**: it costs speed;\n\
         - **note**: good to know.\n\n\
         And each says whom it concerns: *graph*, what `anemll convert` always writes, which is \
         accepted for the reason that is given; *model*, the sizes of the model, which are what they \
         are; *options*, what a flag of `anemll convert` changes; *foreign*, packages of other tools, \
         for no conversion of ours gives such a program.\n\n\
         Evidence is M measured, A stated by Apple, F reported, I inferred. `anemll explain ANE-017` \
         prints an entry of this page, which is made from the table in `crates/mil/src/lint/rules.rs`.\n",
    );
    for rule in lint::RULES {
        let _ = write!(
            text,
            "\n## {}: {}\n\n{}\n\n| severity | when | concerns |\n|---|---|---|\n",
            rule.id, rule.title, rule.reason
        );
        for case in rule.cases {
            let concern = match case.concern {
                Concern::Graph(why) => format!("graph; accepted: {why}"),
                Concern::Options(flag) => format!("options: {flag}"),
                other => other.name().to_owned(),
            };
            let _ = writeln!(text, "| {} | {} | {concern} |", case.severity.name(), case.when);
        }
        let _ = write!(
            text,
            "\nEvidence ({}): {}\n\nWhat to do: {}\n",
            rule.evidence, rule.sources, rule.remedy
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_suggested() {
        assert_eq!(near("ANE-80")[0], "ANE-080");
        assert_eq!(near("A503")[0], "A0503");
        assert_eq!(near(&"A".repeat(1 << 20)).len(), 3);
    }
}
