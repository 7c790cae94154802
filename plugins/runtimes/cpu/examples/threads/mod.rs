//! A host with a number of threads, for the programs that measure speed.

use anemll_plugin_api::{Host, HostServices, Level, Result};
use std::path::PathBuf;
use std::sync::Arc;

/// A host with so many threads, or why there are none.
pub(crate) fn host(threads: usize) -> std::result::Result<Host, rayon::ThreadPoolBuildError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    Ok(Host::new(Arc::new(Threads(pool))))
}

struct Threads(rayon::ThreadPool);

impl HostServices for Threads {
    fn log(&self, _: Level, _: &str, _: &str) {}

    fn progress(&self, _: &str, _: u64, _: u64) -> bool {
        true
    }

    fn cancelled(&self) -> bool {
        false
    }

    fn threads(&self) -> usize {
        self.0.current_num_threads()
    }

    fn parallel(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        use rayon::prelude::*;
        self.0.install(|| (0..count).into_par_iter().with_max_len(1).for_each(task));
    }

    fn scratch_directory(&self) -> Result<PathBuf> {
        Ok(std::env::temp_dir())
    }
}
