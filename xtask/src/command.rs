//! Running other programs, and where things are.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::Result;

/// The folder of the workspace's Cargo.toml.
pub(crate) fn workspace_root() -> Result<PathBuf> {
    // `cargo run` names the manifest's folder; the compiled-in one is for a program moved elsewhere.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = manifest.parent().ok_or("the workspace's folder is not known")?;
    Ok(root.to_owned())
}

/// The cargo that started this program.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What `cargo run` sets for this crate must not leak into the builds that it starts.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_")) {
            command.env_remove(name);
        }
    }
    command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH");
    command
}

/// Runs to the end with the terminal attached.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = shown(command);
    eprintln!("$ {line}");
    let status = command.status().map_err(|error| format!("`{line}` did not start: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{line}` failed ({status})")) }
}

/// Runs all of them, as many at once as there are processors, in order; what each says is shown when
/// it ends.
pub(crate) fn run_all(commands: Vec<Command>) -> Result<()> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let left = Mutex::new(commands.into_iter());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> Result<()> {
        while let Some(mut command) = next() {
            run_quietly(&mut command)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        // All are waited for, also after a failure.
        let ended: Vec<Result<()>> = started
            .into_iter()
            .map(|one| one.join().unwrap_or_else(|_| Err("a worker panicked".to_owned())))
            .collect();
        ended.into_iter().collect()
    })
}

/// Runs to the end, then shows what it said.
fn run_quietly(command: &mut Command) -> Result<()> {
    let line = shown(command);
    let output = command.output().map_err(|error| format!("`{line}` did not start: {error}"))?;
    let text = [output.stdout, output.stderr].concat();
    eprint!("$ {line}\n{}", String::from_utf8_lossy(&text));
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("`{line}` failed ({})", output.status))
    }
}

/// Whether the program starts and succeeds; its output is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// The command as one would type it, with paths below the workspace made relative.
pub(crate) fn shown(command: &Command) -> String {
    let root = workspace_root().unwrap_or_default();
    let mut text = shown_word(command.get_program(), &root);
    for argument in command.get_args() {
        // Writing to a string cannot fail.
        let _ = write!(text, " {}", shown_word(argument, &root));
    }
    text
}

fn shown_word(word: &OsStr, root: &Path) -> String {
    let path = Path::new(word);
    let word = match path.strip_prefix(root) {
        Ok(inside) if path.is_absolute() => inside.display().to_string(),
        _ if path.is_absolute() && path.file_stem() == Some(OsStr::new("cargo")) => {
            "cargo".to_owned()
        }
        _ => word.to_string_lossy().into_owned(),
    };
    let plain = |character: char| character.is_alphanumeric() || "-_./=:,+@".contains(character);
    if !word.is_empty() && word.chars().all(plain) { word } else { format!("{word:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_typed() {
        let root = workspace_root().unwrap();
        let mut command = Command::new(root.join("dist").join("anemll"));
        command.args(["generate", "--prompt", "Once upon", ""]);
        let expected = Path::new("dist").join("anemll");
        assert_eq!(
            shown(&command),
            format!("{} generate --prompt \"Once upon\" \"\"", expected.display())
        );
    }

    #[test]
    fn a_failing_program_is_an_error_that_names_it() {
        let message = run(Command::new("no-such-program-anywhere").arg("x")).unwrap_err();
        assert!(message.contains("no-such-program-anywhere x"), "{message}");
    }
}
