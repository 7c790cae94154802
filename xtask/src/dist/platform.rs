//! For which machines what was built is: the target triple, and Python's name for it.

use crate::Result;
use object::elf::{FileHeader32, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader};
use object::{Endianness, FileKind};
use std::path::Path;
use std::process::Command;

/// What is read of a program or library.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Needs {
    /// The newest glibc whose symbols it takes.
    pub(crate) glibc: Option<(u32, u32)>,
    /// The libraries that it names.
    pub(crate) libraries: Vec<String>,
    /// The oldest macOS that it says it runs on.
    pub(crate) macos: Option<(u32, u32)>,
}

/// The libraries that every system with glibc has, as the manylinux profiles list them.
const SYSTEM: [&str; 10] = [
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
    "libstdc++.so.6",
    "libutil.so.1",
];

/// The triple that the compiler builds for.
pub(crate) fn target() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .arg("-vV")
        .output()
        .map_err(|error| format!("rustc did not start: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(|triple| triple.trim().to_owned())
        .ok_or_else(|| "rustc does not say what it builds for".to_owned())
}

/// Python's name for the machines that a program and its libraries run on.
pub(crate) fn wheel_tag(target: &str, files: &[&Path]) -> Result<String> {
    let processor = target.split('-').next().unwrap_or_default();
    if target.contains("windows") {
        return match processor {
            "x86_64" => Ok("win_amd64".to_owned()),
            "aarch64" => Ok("win_arm64".to_owned()),
            other => Err(format!("no wheel is known for Windows on {other}")),
        };
    }
    let mut glibc = (2, 5);
    let mut macos = (11, 0);
    for path in files {
        let needs = needs(path)?;
        glibc = glibc.max(needs.glibc.unwrap_or_default());
        macos = macos.max(needs.macos.unwrap_or_default());
        let foreign = |library: &&String| {
            target.contains("-linux-gnu") && !SYSTEM.contains(&library.as_str())
        };
        if let Some(library) = needs.libraries.iter().find(foreign) {
            return Err(format!("{} needs {library}, which not every system has", path.display()));
        }
    }
    if target.contains("-linux-gnu") {
        return Ok(format!("manylinux_{}_{}_{processor}", glibc.0, glibc.1));
    }
    if target.contains("-linux-musl") {
        return Ok(format!("musllinux_1_2_{processor}"));
    }
    if target.contains("-apple-darwin") {
        let processor = if processor == "aarch64" { "arm64" } else { processor };
        return Ok(format!("macosx_{}_{}_{processor}", macos.0, macos.1));
    }
    Err(format!("no wheel is known for {target}"))
}

/// What a program or library needs.
pub(crate) fn needs(path: &Path) -> Result<Needs> {
    let bytes = std::fs::read(path).map_err(|error| super::failed("read", path, &error))?;
    let refused = |error: object::read::Error| format!("{}: {error}", path.display());
    match FileKind::parse(bytes.as_slice()).map_err(refused)? {
        FileKind::Elf64 => elf::<FileHeader64<Endianness>>(&bytes).map_err(refused),
        FileKind::Elf32 => elf::<FileHeader32<Endianness>>(&bytes).map_err(refused),
        FileKind::MachO64 => macho(&bytes).map_err(refused),
        _ => Ok(Needs::default()),
    }
}

fn elf<Elf: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> object::read::Result<Needs> {
    let mut needs = Needs::default();
    let header = Elf::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    if let Some((mut versions, link)) = sections.gnu_verneed(endian, bytes)? {
        let strings = sections.strings(endian, bytes, link)?;
        while let Some((_, mut names)) = versions.next()? {
            while let Some(name) = names.next()? {
                let name = name.name(endian, strings)?;
                if let Some(version) = version(name) {
                    needs.glibc = needs.glibc.max(Some(version));
                }
            }
        }
    }
    if let Some((entries, link)) = sections.dynamic(endian, bytes)? {
        let strings = sections.strings(endian, bytes, link)?;
        for entry in entries.iter().filter(|entry| entry.d_tag(endian) == object::elf::DT_NEEDED) {
            let name = entry.string(endian, strings)?;
            needs.libraries.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(needs)
}

/// `GLIBC_2.34` is 2.34.
fn version(name: &[u8]) -> Option<(u32, u32)> {
    let text = std::str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?;
    let mut numbers = text.split('.').map(|part| part.parse::<u32>().ok());
    Some((numbers.next()??, numbers.next().unwrap_or(Some(0))?))
}

fn macho(bytes: &[u8]) -> object::read::Result<Needs> {
    use object::macho::{LC_BUILD_VERSION, MachHeader64};
    use object::read::macho::MachHeader as _;
    let header = MachHeader64::<Endianness>::parse(bytes, 0)?;
    let endian = header.endian()?;
    let mut needs = Needs::default();
    let mut commands = header.load_commands(endian, bytes, 0)?;
    while let Some(command) = commands.next()? {
        if command.cmd() != LC_BUILD_VERSION {
            continue;
        }
        if let Some((build, _)) = command.build_version(endian)? {
            let oldest = build.minos.get(endian).0;
            needs.macos = Some((oldest >> 16, (oldest >> 8) & 0xff));
        }
    }
    Ok(needs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_glibc_are_numbers() {
        assert_eq!(version(b"GLIBC_2.34"), Some((2, 34)));
        assert_eq!(version(b"GLIBC_2.2.5"), Some((2, 2)));
        assert_eq!(version(b"GLIBC_PRIVATE"), None);
        assert_eq!(version(b"GCC_4.2.0"), None);
        assert!((2, 9) < (2, 34));
    }

    #[test]
    fn targets_have_pythons_names() {
        let of = |target: &str| wheel_tag(target, &[]);
        assert_eq!(of("x86_64-pc-windows-msvc").unwrap(), "win_amd64");
        assert_eq!(of("aarch64-apple-darwin").unwrap(), "macosx_11_0_arm64");
        assert_eq!(of("x86_64-unknown-linux-musl").unwrap(), "musllinux_1_2_x86_64");
        assert_eq!(of("x86_64-unknown-linux-gnu").unwrap(), "manylinux_2_5_x86_64");
        assert!(of("riscv64-unknown-none").is_err());
    }

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn this_program_needs_glibc() {
        let needs = needs(&std::env::current_exe().unwrap()).unwrap();
        assert!(needs.glibc.is_some_and(|version| version >= (2, 2)), "{needs:?}");
        assert!(needs.libraries.contains(&"libc.so.6".to_owned()), "{needs:?}");
    }
}
