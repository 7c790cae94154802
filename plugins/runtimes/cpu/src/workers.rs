//! Splitting the work of one operation over the host's threads.

use crate::failure::Outcome;
use anemll_plugin_api::{Error, Host};
use std::sync::Mutex;

/// Splits `output` into as many ranges as the host has threads, each a multiple of `unit`
/// elements, and calls `task` with the start and the elements of each range.
///
/// `cost` is the work in multiply-adds (or the like); little work is done on the calling thread.
pub(crate) fn split<T: Send>(
    host: &Host,
    output: &mut [T],
    unit: usize,
    cost: usize,
    task: impl Fn(usize, &mut [T]) -> Outcome<()> + Sync,
) -> Outcome<()> {
    let threads = if cost < LEAST_COST { 1 } else { host.threads() };
    let units = output.len().div_ceil(unit.max(1));
    if threads <= 1 || units <= 1 {
        return task(0, output);
    }
    let length = units.div_ceil(threads) * unit.max(1);
    let ranges: Vec<Mutex<&mut [T]>> = output.chunks_mut(length).map(Mutex::new).collect();
    host.parallel(ranges.len(), &|index| {
        let mut range = ranges[index].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        task(index * length, &mut range).map_err(Error::from)
    })?;
    Ok(())
}

/// Work below this many multiply-adds is not worth waking other threads.
const LEAST_COST: usize = 1 << 17;
