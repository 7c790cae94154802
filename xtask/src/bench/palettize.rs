//! `bench palettize`: palettization beside coremltools.

use std::process::Command;

use crate::command::{cargo, run as run_command, workspace_root};
use crate::{Result, artifacts, witness};

/// Measures, with these arguments for `bench_palettize.py`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let root = workspace_root()?;
    let target = artifacts::target_directory()?;
    let reference = root.join("tests").join("reference");
    let requirements = reference.join("requirements-bench.txt");
    let python = match std::env::var_os("ANEMLL_BENCH_PYTHON") {
        Some(python) => python.into(),
        None => witness::environment(&target.join("bench-venv"), &requirements)?,
    };
    let mut build = cargo();
    build.current_dir(&root).args(["build", "--release", "--package", "anemll-palettize"]);
    run_command(build.args(["--example", "palettize_speed"]))?;
    let name = format!("palettize_speed{}", std::env::consts::EXE_SUFFIX);
    let ours = target.join("release").join("examples").join(name);
    let mut bench = Command::new(python);
    bench.current_dir(&root).arg(reference.join("bench_palettize.py"));
    run_command(bench.arg("--ours").arg(ours).args(arguments))
}
