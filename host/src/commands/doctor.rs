//! `doctor`: what this machine can do, and what is missing. It warns of nothing but what the user can
//! mend; what a machine is not made for is told as a fact.

use anemll_codes as codes;
use anemll_pipeline::model_source::HubEnvironment;
use anemll_pipeline::plugins::Plugins;
use anemll_plugin_api::data::{Availability, Stage};
use anemll_plugin_api::{ComponentOptions, Error, Result};
use anemll_report::health::{self, Health as Status, Line};
use anemll_report::plugins::plugin_lines;
use anemll_services::machine;
use anemll_terminal::{self as terminal, size};
use clap::Args;
use std::path::Path;

/// For `--help`.
pub const EXAMPLES: &str = "Examples:
  anemll doctor
  anemll doctor --json
  anemll --plugin ./libllama.so doctor

Exit code 1 when something fails without which nothing can be converted.";

/// What can be typed.
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// Print one JSON array.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(arguments: &DoctorArguments, plugins: &Plugins) -> Result<()> {
    let mut lines = vec![Line::new("anemll", Status::Ok, program())];
    lines.push(system(machine::macos_version().as_deref()));
    lines.push(processor());
    lines.push(memory(machine::memory()));
    let here = std::env::current_dir().unwrap_or_default();
    lines.push(disk("disk", &here));
    lines.push(disk("temporary files", &std::env::temp_dir()));
    lines.extend(plugin_lines(plugins.found()));
    lines.extend(compilers(plugins));
    lines.extend(runtimes(plugins));
    lines.extend(hub(&HubEnvironment::read()));
    tell(&lines, arguments.json)
}

/// Prints what was found; an error where something fails.
pub fn tell(lines: &[Line], json: bool) -> Result<()> {
    if json {
        super::print_json(&lines)?;
    } else {
        super::print(&health::text(lines, terminal::width()))?;
    }
    let failed = health::failed(lines);
    if failed == 0 {
        return Ok(());
    }
    Err(Error::new(codes::MACHINE_UNFIT, format!("{failed} of the checks failed"))
        .with_hint("do what stands below each line that begins with `fail`"))
}

/// What runs, and where it is.
fn program() -> String {
    let version = env!("CARGO_PKG_VERSION");
    match std::env::current_exe() {
        Ok(path) => format!("{version}, {}", path.display()),
        Err(_) => version.to_owned(),
    }
}

/// macOS 15 is the first whose Core ML knows states, which every package here has.
const FIRST_MACOS: u32 = 15;

fn system(macos: Option<&str>) -> Line {
    let name = format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH);
    let Some(version) = macos else {
        let message =
            format!("{name}; packages can be made and checked here, the Neural Engine is Apple's");
        return Line::new("system", Status::Ok, message);
    };
    let major = version.split('.').next().and_then(|text| text.parse::<u32>().ok());
    let message = format!("{name}, version {version}");
    if major.is_some_and(|major| major < FIRST_MACOS) {
        return Line::new("system", Status::Warn, message)
            .hint("update it: models with states run on the Neural Engine from macOS 15 on");
    }
    Line::new("system", Status::Ok, message)
}

fn processor() -> Line {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (has, lacks) = machine::processor_features();
    let message = format!("{threads} threads; {}", list(&has));
    if lacks.is_empty() {
        return Line::new("processor", Status::Ok, message);
    }
    let slow = "the runtime `cpu` works, but slowly";
    Line::new("processor", Status::Ok, format!("{message}; without {}: {slow}", list(&lacks)))
}

/// Memory below which large models are likely to fail.
const LITTLE_MEMORY: u64 = 2 << 30;

fn memory(memory: Option<machine::Memory>) -> Line {
    let Some(memory) = memory else {
        return Line::new("memory", Status::Ok, "this system does not say how much there is");
    };
    let total = size(memory.total);
    let message = match memory.available {
        Some(available) => format!("{} of {total} available", size(available)),
        None => total,
    };
    if memory.available.unwrap_or(memory.total) < LITTLE_MEMORY {
        return Line::new("memory", Status::Warn, message)
            .hint("end other programs: the test step and `chat` hold the whole model");
    }
    Line::new("memory", Status::Ok, message)
}

/// Space that a small model takes, and space below which nothing can be written.
const LITTLE_SPACE: u64 = 4 << 30;
const NO_SPACE: u64 = 64 << 20;

fn disk(topic: &'static str, path: &Path) -> Line {
    let shown = path.display();
    match machine::free_space(path) {
        None => {
            Line::new(topic, Status::Ok, format!("{shown}: its free space cannot be found out"))
        }
        Some(bytes) if bytes < NO_SPACE => {
            Line::new(topic, Status::Fail, format!("{} free in {shown}", size(bytes)))
                .hint("free some space")
        }
        Some(bytes) if bytes < LITTLE_SPACE => {
            Line::new(topic, Status::Warn, format!("{} free in {shown}", size(bytes)))
                .hint("a conversion takes about the size of its weights: see `anemll plan`")
        }
        Some(bytes) => Line::new(topic, Status::Ok, format!("{} free in {shown}", size(bytes))),
    }
}

fn compilers(plugins: &Plugins) -> Vec<Line> {
    let lines: Vec<Line> = plugins
        .components(Stage::Compiler)
        .into_iter()
        .map(|(entry, component)| {
            let none = ComponentOptions::new();
            let compiler = entry.open().and_then(|plugin| plugin.compiler(&component.id, &none));
            let check = compiler.and_then(|compiler| compiler.check());
            available("compiler", &component.id, check)
        })
        .collect();
    or_none(lines, "compiler", "the packages stay .mlpackage: Xcode compiles them too")
}

fn runtimes(plugins: &Plugins) -> Vec<Line> {
    let lines: Vec<Line> = plugins
        .components(Stage::Runtime)
        .into_iter()
        .map(|(entry, component)| {
            let none = ComponentOptions::new();
            let runtime = entry.open().and_then(|plugin| plugin.runtime(&component.id, &none));
            let check = runtime.and_then(|runtime| runtime.check());
            available("runtime", &component.id, check)
        })
        .collect();
    or_none(lines, "runtime", "the test step, `chat` and `eval` need one; see --plugin")
}

fn available(topic: &'static str, id: &str, check: Result<Availability>) -> Line {
    match check {
        Ok(Availability { available: true, reason, .. }) if reason.is_empty() => {
            Line::new(topic, Status::Ok, id)
        }
        Ok(Availability { available: true, reason, .. }) => {
            Line::new(topic, Status::Ok, format!("{id}: {reason}"))
        }
        Ok(Availability { available: false, reason, .. }) => {
            // Another system or another program is nothing that this one could be mended by.
            Line::new(topic, Status::Ok, format!("{id}: not on this machine: {reason}"))
        }
        Err(error) => {
            Line::new(topic, Status::Warn, format!("{id}: {} [{}]", error.message, error.code))
        }
    }
}

fn or_none(lines: Vec<Line>, topic: &'static str, hint: &'static str) -> Vec<Line> {
    if lines.is_empty() {
        return vec![Line::new(topic, Status::Warn, "none found").hint(hint)];
    }
    lines
}

fn hub(environment: &HubEnvironment) -> Vec<Line> {
    let HubEnvironment { cache, token, offline, .. } = environment;
    let models = std::fs::read_dir(cache).ok().map(|entries| {
        let name = |entry: std::io::Result<std::fs::DirEntry>| Some(entry.ok()?.file_name());
        entries
            .filter_map(name)
            .filter(|name| name.to_string_lossy().starts_with("models--"))
            .count()
    });
    let holds = match models {
        Some(1) => "1 model".to_owned(),
        Some(count) => format!("{count} models"),
        None => "not there yet".to_owned(),
    };
    let free = machine::free_space(cache)
        .map_or_else(String::new, |bytes| format!(", {} free", size(bytes)));
    let reach = match (cfg!(feature = "hub"), offline) {
        (false, _) => "this build downloads nothing".to_owned(),
        (true, true) => "HF_HUB_OFFLINE is set: nothing is downloaded".to_owned(),
        (true, false) => environment.shown_endpoint(),
    };
    let token = match token {
        Some(_) => "there is one; it is sent only where a model is refused without it",
        None => "none; only gated and private models need one",
    };
    vec![
        Line::new("hub", Status::Ok, reach),
        Line::new("hub cache", Status::Ok, format!("{}: {holds}{free}", cache.display())),
        Line::new("hub token", Status::Ok, token),
    ]
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "nothing special".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_is_warned_of() {
        assert_eq!(system(None).status, Status::Ok);
        assert_eq!(system(Some("15.1")).status, Status::Ok);
        assert_eq!(system(Some("14.7.1")).status, Status::Warn);
        let machine = |available| Some(machine::Memory { total: 8 << 30, available });
        assert_eq!(memory(machine(Some(4 << 30))).status, Status::Ok);
        assert_eq!(memory(machine(Some(1 << 30))).status, Status::Warn);
        assert_eq!(memory(None).status, Status::Ok);
    }

    #[test]
    fn tokens_are_never_printed() {
        let variable = |name: &str| (name == "HF_TOKEN").then(|| "hf_secret".to_owned());
        let lines = hub(&HubEnvironment::from(variable, None));
        let text = health::text(&lines, None);
        assert!(text.contains("there is one") && !text.contains("hf_secret"), "{text}");
        assert!(!serde_json::to_string(&lines).unwrap().contains("hf_secret"));
    }
}
