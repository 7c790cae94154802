//! `demo`: the main job from nothing, on the small model that the repository ships.

use std::process::Command;

use crate::command::{run as run_command, workspace_root};
use crate::{Result, dist, no_arguments};

/// What the small model goes on from; it was trained on a novel that begins much like this.
const PROMPT: &str = "Alice was beginning to get very tired of";

/// The profile of development: built in a third of the time of a release, with what does the
/// arithmetic optimised all the same, and already there for `cargo xtask test`.
const PROFILE: &str = "dev";

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    no_arguments(arguments)?;
    let root = workspace_root()?;
    let dist = dist::make(PROFILE)?;
    let plugin = dist.plugin("llama")?;
    let output = root.join("out").join("tiny-llama");

    println!("\n== Convert");
    run_command(
        Command::new(&dist.host)
            .current_dir(&root)
            .arg("--plugin")
            .arg(plugin)
            .args(["convert", "--model"])
            .arg(root.join("tests").join("models").join("tiny-llama"))
            .arg("--output")
            .arg(&output),
    )?;

    println!("\n== Generate");
    run_command(
        Command::new(&dist.host)
            .current_dir(&root)
            .args(["generate", "--meta"])
            .arg(output.join("meta.yaml"))
            .args(["--prompt", PROMPT, "--max-tokens", "40"]),
    )?;

    println!("\n== Where things are");
    println!("program:  {}", dist.host.display());
    println!("plugins:  {}", root.join("dist").join("plugins").display());
    println!("packages: {}", output.display());
    println!("report:   {}", output.join("anemll-report.json").display());
    println!("\nFor models of your own, `cargo xtask dist` builds the program for speed.");
    Ok(())
}
