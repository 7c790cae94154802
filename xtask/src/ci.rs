//! `ci`: what continuous integration does, on this machine.

use std::process::Command;

use crate::Result;
use crate::command::{run as run_command, workspace_root};

/// Runs the task. The steps stand in `.ci/run` alone, with what it may be asked for, so that both ways do
/// the same.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let root = workspace_root()?;
    let script = root.join(".ci").join("run");
    run_command(Command::new("bash").current_dir(&root).arg(script).args(arguments))
}
