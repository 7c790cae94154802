//! Slots, each a thread with an engine of its own: states and caches of each, weights of all. Who asks
//! gets the free slot whose cache has most of the prompt, or waits in a line that has an end.

use crate::answering;
use crate::failure::Failure;
use crate::job::{Event, Job};
use crate::metrics::Metrics;
use crate::place::Place;
use crate::served::Served;
use anemll_codes as codes;
use anemll_generation::generation::Generator;
use anemll_plugin_api::{Error, Result};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// All slots with those who wait for one.
pub(crate) struct Slots {
    line: Mutex<Line>,
    changed: Condvar,
    /// Requests that were let in and are not answered.
    inside: Arc<AtomicUsize>,
    /// As many are let in.
    most_inside: usize,
    count: usize,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Job>,
    /// The tokens in the caches of slots that are free.
    free: BTreeMap<usize, Vec<u32>>,
    /// What a slot that was free is to do.
    handed: BTreeMap<usize, Job>,
    /// What slots are doing can be ended by these.
    running: BTreeMap<usize, Arc<AtomicBool>>,
    ending: bool,
}

impl Slots {
    /// Starts a thread for each generator. `queue` requests may wait beside those that are answered.
    ///
    /// # Errors
    /// The system allows no more threads.
    pub(crate) fn start(
        generators: Vec<Generator>,
        queue: usize,
        served: &Arc<Served>,
        metrics: &Arc<Metrics>,
    ) -> Result<Arc<Self>> {
        let count = generators.len();
        let slots = Arc::new(Self {
            line: Mutex::default(),
            changed: Condvar::new(),
            inside: Arc::default(),
            most_inside: count.saturating_add(queue),
            count,
            metrics: Arc::clone(metrics),
        });
        for (slot, mut generator) in generators.into_iter().enumerate() {
            let (slots, served) = (Arc::clone(&slots), Arc::clone(served));
            let work = move || {
                while let Some(job) = slots.next(slot, generator.cached()) {
                    answering::run(job, &mut generator, &served, &slots.metrics);
                }
            };
            let thread = std::thread::Builder::new().name(format!("slot {slot}")).spawn(work);
            thread.map_err(|source| {
                Error::new(codes::THREADS, format!("no thread for a slot: {source}"))
                    .with_hint("take fewer: --slots 1")
            })?;
        }
        Ok(slots)
    }

    /// Lets a request in, where there is room.
    ///
    /// # Errors
    /// There is none, or the server ends.
    pub(crate) fn enter(&self) -> std::result::Result<Place, Failure> {
        if self.lock().ending {
            return Err(Failure::ending());
        }
        let mean = self.metrics.answers.mean();
        Place::enter(&self.inside, self.count, self.most_inside, mean)
    }

    /// Gives a job to a free slot, or has it wait.
    pub(crate) fn submit(&self, job: Job) {
        let mut line = self.lock();
        if line.ending {
            return job.outlet.send(Event::Failed(Failure::ending()));
        }
        let shared =
            |cached: &[u32]| cached.iter().zip(&job.prompt).take_while(|(a, b)| a == b).count();
        // Of equals the one with the shortest cache, of which the least is lost.
        let best = line
            .free
            .iter()
            .max_by_key(|(_, cached)| (shared(cached), std::cmp::Reverse(cached.len())));
        match best.map(|(slot, _)| *slot) {
            Some(slot) => {
                line.free.remove(&slot);
                line.handed.insert(slot, job);
                drop(line);
                self.changed.notify_all();
            }
            None => line.waiting.push_back(job),
        }
    }

    /// What a slot with these tokens in its cache is to do next; nothing when the server ends.
    fn next(&self, slot: usize, cached: &[u32]) -> Option<Job> {
        let mut line = self.lock();
        line.running.remove(&slot);
        let job = loop {
            if let Some(job) = line.handed.remove(&slot) {
                break job;
            }
            if line.ending {
                return None;
            }
            // Whoever left while waiting is passed over.
            let gone = |job: &Job| job.outlet.cancel.load(Ordering::Relaxed);
            while line.waiting.front().is_some_and(gone) {
                line.waiting.pop_front();
            }
            if let Some(job) = line.waiting.pop_front() {
                break job;
            }
            line.free.entry(slot).or_insert_with(|| cached.to_vec());
            line = self.changed.wait(line).unwrap_or_else(PoisonError::into_inner);
        };
        line.free.remove(&slot);
        line.running.insert(slot, Arc::clone(&job.outlet.cancel));
        Some(job)
    }

    /// Begins no more answers: those who wait are told.
    pub(crate) fn end(&self) {
        let mut line = self.lock();
        line.ending = true;
        for job in line.waiting.drain(..) {
            job.outlet.send(Event::Failed(Failure::ending()));
        }
        drop(line);
        self.changed.notify_all();
    }

    /// Ends the answers that are being made.
    pub(crate) fn cut(&self) {
        for cancel in self.lock().running.values() {
            cancel.store(true, Ordering::Relaxed);
        }
    }

    /// How many requests are answered, and how many wait, now.
    pub(crate) fn load(&self) -> (usize, usize) {
        let running = self.lock().running.len();
        (running, self.inside.load(Ordering::SeqCst).saturating_sub(running))
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
