//! `bench`: measures, on the machine at hand.

mod palettize;
mod plugins;

use crate::Result;

/// A measure, given its arguments.
type Measure = fn(&[String]) -> Result<()>;

/// What is measured, by name.
const MEASURES: [(&str, Measure); 2] = [("palettize", palettize::run), ("plugins", plugins::run)];

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let Some((name, rest)) = arguments.split_first() else { return Err(usage()) };
    match MEASURES.iter().find(|(known, _)| known == name) {
        Some((_, measure)) => measure(rest),
        None => Err(usage()),
    }
}

fn usage() -> String {
    let names = MEASURES.map(|(name, _)| name).join("` and `");
    format!("`bench` measures `{names}`; usage: cargo xtask bench NAME, see cargo xtask help")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_measured_is_refused_before_anything_is_built() {
        for arguments in [vec![], vec!["convert".to_owned()], vec!["--runs".to_owned()]] {
            assert!(run(&arguments).unwrap_err().contains("`palettize` and `plugins`"));
        }
        for wrong in ["--fast", "--pairs=0"] {
            let arguments = ["plugins", wrong].map(str::to_owned);
            assert!(run(&arguments).unwrap_err().contains("bench plugins"), "{wrong}");
        }
    }
}
