//! The harness for stable Rust: changes inputs of the corpus, and keeps what breaks a target.
//!
//! Not guided by coverage, but by answers: an input on which a target says something new joins the
//! inputs that are changed. The same seed and corpus give the same inputs in the same order.
// It talks to a developer at a terminal, and ends the process that it cannot save.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::exit)]

use anemll_fuzz::mutate::Mutator;
use anemll_fuzz::{TARGETS, Target, archive, target};
use clap::Parser;
use std::collections::BTreeSet;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::io::{Seek as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Inputs that take longer are reported.
const SLOW: Duration = Duration::from_secs(1);
/// Inputs that take longer end the run.
const ENDLESS: Duration = Duration::from_secs(30);
/// Inputs that may join those of the corpus.
const MAXIMUM_POOL: usize = 8192;
/// The stack of a thread that did not ask for more.
const STACK: usize = 2 << 20;

/// Feeds changed inputs to a fuzz target.
#[derive(Parser)]
struct Arguments {
    /// package, manifest, blob, gguf, asset, model or mil_text; or `pack`, which prints nothing and packs the
    /// folder --input into the file --output, an input of `package`.
    target: String,
    /// How long to run.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// End after as many inputs, whatever the time.
    #[arg(long, default_value_t = u64::MAX)]
    runs: u64,
    /// Seed of the changes.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Address space of the process; what asks for more is aborted (Unix).
    #[arg(long, default_value_t = 1024)]
    memory_mib: u64,
    /// Run this file alone, and print the answer.
    #[arg(long)]
    input: Option<PathBuf>,
    /// Make the panicking --input smaller, and write it here.
    #[arg(long)]
    output: Option<PathBuf>,
}

fn main() {
    let arguments = Arguments::parse();
    let work = std::thread::Builder::new().stack_size(STACK).spawn(move || run(&arguments));
    let result = work.map(std::thread::JoinHandle::join);
    match result {
        Ok(Ok(Ok(0))) => {}
        Ok(Ok(Ok(count))) => {
            eprintln!("{count} inputs failed");
            std::process::exit(1);
        }
        Ok(Ok(Err(message))) => {
            eprintln!("error: {message}");
            std::process::exit(2);
        }
        other => {
            eprintln!("error: the harness itself failed: {other:?}");
            std::process::exit(2);
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}

/// How many inputs failed.
fn run(arguments: &Arguments) -> Result<usize, String> {
    if arguments.target == "pack" {
        let (Some(folder), Some(output)) = (&arguments.input, &arguments.output) else {
            return Err("pack needs --input FOLDER and --output FILE".to_owned());
        };
        let mut entries = Vec::new();
        collect(folder, folder, &mut entries)?;
        return write(output, &archive::pack(&entries)).map(|()| 0);
    }
    let names = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    let target = target(&arguments.target).ok_or_else(|| format!("the targets are {}", names()))?;
    let limit = arguments.memory_mib << 20;
    #[cfg(unix)]
    rlimit::setrlimit(rlimit::Resource::AS, limit, limit).map_err(|error| error.to_string())?;
    let message = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&message);
    std::panic::set_hook(Box::new(move |panic| {
        if let Ok(mut message) = heard.lock() {
            *message = panic.to_string();
        }
    }));
    let judge = Judge { target, message };
    if let Some(path) = &arguments.input {
        let input = read(path)?;
        return match (judge.judge(&input), &arguments.output) {
            (Err(place), Some(output)) => {
                let small = judge.smaller(&input, &place);
                println!("{} bytes of {}: {place}", small.len(), input.len());
                write(output, &small).map(|()| 1)
            }
            (Err(message), None) => {
                println!("{message}");
                Ok(1)
            }
            (Ok(answer), _) => {
                print!("{answer}");
                Ok(0)
            }
        };
    }
    fuzz(&judge, arguments)
}

/// The files below a folder, by path, as entries of an archive.
fn collect(folder: &Path, root: &Path, entries: &mut Vec<archive::Entry>) -> Result<(), String> {
    let list = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<PathBuf> = list.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, root, entries)?;
        } else if let Ok(name) = path.strip_prefix(root) {
            let name = name.to_string_lossy().replace('\\', "/");
            entries.push((name.into_bytes(), read(&path)?));
        }
    }
    Ok(())
}

/// Runs a target and catches its panics.
struct Judge {
    target: &'static Target,
    message: Arc<Mutex<String>>,
}

impl Judge {
    /// The answer, or where and why the target panicked.
    fn judge(&self, input: &[u8]) -> Result<String, String> {
        catch_unwind(AssertUnwindSafe(|| (self.target.run)(input)))
            .map_err(|_| self.message.lock().map(|message| message.clone()).unwrap_or_default())
    }

    /// Takes out ever smaller pieces while the panic stays at its place.
    fn smaller(&self, input: &[u8], message: &str) -> Vec<u8> {
        let mut input = input.to_vec();
        let mut piece = input.len() / 2;
        while piece > 0 {
            let mut at = 0;
            while at < input.len() {
                let mut less = input.clone();
                less.drain(at..input.len().min(at + piece));
                match self.judge(&less) {
                    Err(other) if place(&other) == place(message) => input = less,
                    _ => at += piece,
                }
            }
            piece /= 2;
        }
        input
    }
}

/// File, line and column of a panic's message.
fn place(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}

/// What an answer says, without what it cites of the input: a number for each line.
fn features(answer: &str) -> impl Iterator<Item = u64> {
    answer.lines().map(|line| {
        let mut hash = std::hash::DefaultHasher::new();
        // Errors cite names between quotes, and numbers. Other lines are rules and types.
        let quote = |c: char| matches!(c, '`' | '"' | '\'');
        let cited = line.find(quote).zip(line.rfind(quote));
        let (before, after) =
            cited.map_or((line, ""), |(first, last)| (&line[..first], &line[last..]));
        let error = line.contains(':');
        let plain = |word: &&str| !error || !word.contains(|c: char| c.is_ascii_digit());
        for word in [before, after].into_iter().flat_map(str::split_whitespace).filter(plain) {
            word.hash(&mut hash);
        }
        hash.finish()
    })
}

fn fuzz(judge: &Judge, arguments: &Arguments) -> Result<usize, String> {
    let name = judge.target.name;
    let mut pool = Vec::new();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    collect(&corpus, &corpus, &mut pool)?;
    let mut pool: Vec<Vec<u8>> = pool.into_iter().map(|(_, data)| data).collect();
    let seeds = pool.len();
    let folder = PathBuf::from("target/fuzz-found").join(name);
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    // What is fed now stands in a file, in case the process does not live to tell.
    let current = folder.join(format!("current-{}", arguments.seed));
    let mut file =
        fs::File::create(&current).map_err(|error| format!("{}: {error}", current.display()))?;

    let start = Instant::now();
    let started = Arc::new(AtomicU64::new(0));
    watch(Arc::clone(&started), start);
    let mut mutator = Mutator::new(arguments.seed);
    let (mut seen, mut places) = (BTreeSet::new(), BTreeSet::new());
    let (mut runs, mut failed, mut slowest) = (0, 0, Duration::ZERO);
    let mut report = Duration::from_secs(10);
    while runs < arguments.runs && start.elapsed().as_secs() < arguments.seconds {
        let at = usize::try_from(runs).unwrap_or(usize::MAX);
        // The corpus as it is comes first.
        let input = if at < seeds {
            pool[at].clone()
        } else {
            let (one, other) = (mutator.below(pool.len()), mutator.below(pool.len()));
            let (one, other) = (pool.get(one).cloned(), pool.get(other).cloned());
            mutator.mutate(judge.target.form, &one.unwrap_or_default(), &other.unwrap_or_default())
        };
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(&input))
            .map_err(|error| format!("{}: {error}", current.display()))?;
        let before = processor_time(start);
        started.store(start.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
        let answer = judge.judge(&input);
        started.store(0, Ordering::Relaxed);
        let taken = processor_time(start).saturating_sub(before);
        runs += 1;
        slowest = slowest.max(taken);
        let problem = match &answer {
            Err(message) => Some(message.clone()),
            Ok(_) if taken > SLOW => Some(format!("slow: {taken:?}")),
            Ok(_) => None,
        };
        if let Some(message) = problem {
            failed += 1;
            if places.insert(place(&message).to_owned()) {
                let path = folder.join(format!("failure-{}-{runs}", arguments.seed));
                write(&path, &input)?;
                println!("{name}: {}: {message}", path.display());
            }
        }
        if let Ok(answer) = answer {
            // Every line counts, so that all are seen.
            let new = features(&answer).filter(|feature| seen.insert(*feature)).count();
            if new > 0 && at >= seeds && pool.len() < MAXIMUM_POOL {
                pool.push(input);
            }
        }
        if start.elapsed() > report {
            report = start.elapsed() * 2;
            progress(name, start, runs, failed, pool.len() - seeds, seen.len(), slowest);
        }
    }
    progress(name, start, runs, failed, pool.len() - seeds, seen.len(), slowest);
    let _ = fs::remove_file(&current);
    Ok(failed)
}

/// Time that this thread has used: other work of the machine does not count. Where the system does
/// not tell (all but Linux), time that has passed.
fn processor_time(start: Instant) -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let first = text.as_deref().and_then(|text| text.split_whitespace().next()?.parse().ok());
    first.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

fn progress(
    name: &str,
    start: Instant,
    runs: u64,
    failed: usize,
    kept: usize,
    answers: usize,
    slowest: Duration,
) {
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{name}: {runs} inputs in {seconds:.0} s ({:.0} a second), {failed} failed, {kept} kept, \
         {answers} kinds of answer, slowest {slowest:?}",
        runs as f64 / seconds
    );
}

/// Ends the process when an input takes too long; its file stays.
fn watch(started: Arc<AtomicU64>, start: Instant) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let since = started.load(Ordering::Relaxed);
            let now = start.elapsed().as_millis() as u64;
            if since != 0 && now > since && now - since > ENDLESS.as_millis() as u64 {
                println!("an input does not end: see target/fuzz-found/*/current-*");
                std::process::exit(3);
            }
        }
    });
}
