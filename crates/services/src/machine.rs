//! What is known of the machine that this runs on, without unsafe code and heavy crates.

use std::path::Path;

/// Bytes of memory, as far as the system says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What programs can still have, where that is known.
    pub available: Option<u64>,
}

/// The machine's memory; none where there is no way to know.
pub fn memory() -> Option<Memory> {
    if cfg!(target_os = "linux") {
        return parse_meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?);
    }
    let total = answer("sysctl", &["-n", "hw.memsize"])?.parse().ok()?;
    Some(Memory { total, available: None })
}

/// Bytes of memory that this process had at most; none where the system does not tell.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    kibibytes(&status, "VmHWM")
}

/// The number behind a key of the system's own tables, which is in KiB, in bytes.
fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Reads `MemTotal` and `MemAvailable`, which are in KiB.
fn parse_meminfo(text: &str) -> Option<Memory> {
    Some(Memory { total: kibibytes(text, "MemTotal")?, available: kibibytes(text, "MemAvailable") })
}

/// Bytes that can still be written where `path` is, or where it would be made.
pub fn free_space(path: &Path) -> Option<u64> {
    let path = std::path::absolute(path).ok()?;
    let there = path.ancestors().find(|path| path.exists())?;
    fs4::available_space(there).ok()
}

/// The version of macOS; none on other systems.
pub fn macos_version() -> Option<String> {
    if cfg!(target_os = "macos") { answer("sw_vers", &["-productVersion"]) } else { None }
}

/// Features of the processor that make the runtime `cpu` fast: those it has, and those it lacks.
pub fn processor_features() -> (Vec<&'static str>, Vec<&'static str>) {
    macro_rules! sort {
        ($detect:ident, $($name:tt),+) => {{
            let all = [$(($name, std::arch::$detect!($name))),+];
            let those = |has: bool| {
                all.iter().filter(|(_, found)| *found == has).map(|(name, _)| *name).collect()
            };
            (those(true), those(false))
        }};
    }
    #[cfg(target_arch = "x86_64")]
    return sort!(is_x86_feature_detected, "avx2", "fma", "f16c");
    #[cfg(target_arch = "aarch64")]
    return sort!(is_aarch64_feature_detected, "neon", "fp16");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    (Vec::new(), Vec::new())
}

/// The first line that a program of the system prints.
fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let output = std::process::Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim().to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_linux() {
        let text = "MemTotal:       16318480 kB\nMemFree:  1 kB\nMemAvailable:    8000000 kB\n";
        let memory = Memory { total: 16_318_480 * 1024, available: Some(8_000_000 * 1024) };
        assert_eq!(parse_meminfo(text), Some(memory));
        for text in ["", "MemTotal: x kB", "MemTotal: 99999999999999999999 kB"] {
            assert_eq!(parse_meminfo(text), None, "{text}");
        }
    }

    #[test]
    fn space_of_what_does_not_exist_is_that_of_its_parent() {
        let folder = std::env::temp_dir();
        assert!(free_space(&folder.join("not/there/yet")).is_some_and(|bytes| bytes > 0));
        assert_eq!(answer("a-program-that-does-not-exist", &[]), None);
    }
}
