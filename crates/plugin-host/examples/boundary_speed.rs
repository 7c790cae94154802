//! What the boundary of plugins costs: `boundary_speed LIBRARY…` loads the libraries one after another
//! and prints the milliseconds of each, from the file to the checked layout; if one of them is the
//! example `misbehaving`, also the nanoseconds of a call across that does nothing.

#![allow(clippy::print_stdout, reason = "its answer is read by a task")]

use anemll_plugin_api::{ComponentOptions, Host, Result};
use anemll_plugin_host::open;
use std::path::Path;
use std::time::Instant;

/// Calls of one measurement.
const CALLS: u32 = 100_000;

fn main() -> Result<()> {
    for library in std::env::args_os().skip(1) {
        let start = Instant::now();
        let plugin = open(Path::new(&library))?;
        let milliseconds = start.elapsed().as_secs_f64() * 1000.0;
        println!("load {} {milliseconds}", plugin.manifest().name);
        if plugin.manifest().name == "misbehaving" {
            let runtime = plugin.runtime("misbehaving-runtime", &ComponentOptions::new())?;
            let mut session = runtime.open(Path::new(""), &Host::quiet())?;
            let start = Instant::now();
            for _ in 0..CALLS {
                session.reset()?;
            }
            println!("call reset {}", start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS));
        }
    }
    Ok(())
}
