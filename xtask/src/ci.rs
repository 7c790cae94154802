//! `ci`: what continuous integration does, on this machine.

use std::process::Command;

use crate::command::{run as run_command, workspace_root};
use crate::{Result, no_arguments};

/// Runs the task. The steps stand in `.ci/run` alone, so that both ways do the same.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    no_arguments(arguments)?;
    let root = workspace_root()?;
    run_command(Command::new("bash").current_dir(&root).arg(root.join(".ci").join("run")))
}
