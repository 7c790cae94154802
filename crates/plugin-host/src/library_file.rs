//! Reads a plugin's manifest from its file, without running anything.

use std::fs::File;
use std::path::Path;

use object::read::macho::{FatArch, MachOFatFile32, MachOFatFile64};
use object::read::{ExportTarget, File as Library, FileKind, NameOrOrdinal, ReadCache, ReadRef};
use object::{Architecture, BinaryFormat, Object, ObjectKind, ObjectSegment, ObjectSymbol};

use anemll_codes as codes;
use anemll_plugin_api::__host::{MANIFEST_HEADER, MANIFEST_MAGIC};
use anemll_plugin_api::{Error, Result, limits};

use crate::blocks::Blocks;

/// The name of the manifest symbol, as the linker knows it outside of Mach-O.
const MANIFEST_SYMBOL: &str = "ANEMLL_PLUGIN_MANIFEST";

/// Most exported names that are looked at.
const EXPORTS: usize = 1 << 20;

/// A manifest as it stands in a library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawManifest {
    /// The epoch in the symbol's header.
    pub(crate) epoch: u32,
    /// The JSON behind the header.
    pub(crate) json: String,
}

/// Reads the manifest symbol of a library for this system and processor.
///
/// # Errors
/// In this order: [`codes::PLUGIN_UNREADABLE`], [`codes::PLUGIN_NOT_A_LIBRARY`],
/// [`codes::PLUGIN_OTHER_SYSTEM`], [`codes::PLUGIN_OTHER_CPU`], [`codes::PLUGIN_NO_MANIFEST`],
/// [`codes::PLUGIN_MANIFEST_INVALID`].
pub(crate) fn read_manifest(path: &Path) -> Result<RawManifest> {
    open_file(path).and_then(manifest_in).map_err(|error| match error.at {
        None => error.with_at(path.display().to_string()),
        Some(_) => error,
    })
}

/// The error of a file that is not there, or cannot be read.
pub(crate) fn unreadable(why: &str) -> Error {
    Error::new(codes::PLUGIN_UNREADABLE, format!("the plugin cannot be read: {why}"))
}

/// Opens what must be a regular file.
pub(crate) fn open_file(path: &Path) -> Result<File> {
    // Opening something that is no file, such as a pipe, could wait for ever.
    let metadata = std::fs::metadata(path).map_err(|error| {
        unreadable(&error.to_string()).with_hint("check the path of the plugin's library")
    })?;
    if !metadata.is_file() {
        return Err(unreadable("it is not a file").with_hint("name the plugin's library itself"));
    }
    let mut options = std::fs::OpenOptions::new();
    options.read(true);
    #[cfg(windows)]
    {
        use std::os::windows::fs::OpenOptionsExt as _;
        // As long as the file is open, nobody else writes to it, renames or removes it.
        const FILE_SHARE_READ: u32 = 1;
        options.share_mode(FILE_SHARE_READ);
    }
    options.open(path).map_err(|error| unreadable(&error.to_string()))
}

/// Reads the manifest symbol of an open library.
pub(crate) fn manifest_in(file: File) -> Result<RawManifest> {
    let failed = |error: std::io::Error| unreadable(&error.to_string());
    let length = file.metadata().map_err(failed)?.len();
    let mut blocks = Blocks::new(file, length);
    let kind = FileKind::parse(blocks.beginning().map_err(failed)?);
    let cache = ReadCache::new(blocks);
    let data = match kind {
        Ok(FileKind::MachOFat32) => {
            let fat = MachOFatFile32::parse(&cache).map_err(damaged)?;
            fat_member(fat.arches(), &cache)?
        }
        Ok(FileKind::MachOFat64) => {
            let fat = MachOFatFile64::parse(&cache).map_err(damaged)?;
            fat_member(fat.arches(), &cache)?
        }
        Ok(FileKind::Archive) => {
            return Err(not_a_library("it is a static library")
                .with_hint("build the plugin with `crate-type = [\"cdylib\"]`"));
        }
        Ok(
            FileKind::Elf32
            | FileKind::Elf64
            | FileKind::MachO32
            | FileKind::MachO64
            | FileKind::Pe32
            | FileKind::Pe64,
        ) => cache.range(0, length),
        _ if length == 0 => return Err(not_a_library("it is empty")),
        _ => return Err(not_a_library("it is another kind of file")),
    };
    let library = Library::parse(data).map_err(damaged)?;
    check_system(library.format())?;
    check_processor(library.architecture())?;
    match library.kind() {
        ObjectKind::Dynamic => {}
        // Mach-O bundles have no kind of their own.
        ObjectKind::Unknown if library.format() == BinaryFormat::MachO => {}
        ObjectKind::Executable => return Err(not_a_library("it is a program")),
        ObjectKind::Relocatable => return Err(not_a_library("it is an object file")),
        _ => return Err(not_a_library("it is another kind of file")),
    }
    let address = manifest_address(&library)?;
    let header: [u8; MANIFEST_HEADER] =
        bytes_at(&library, data, address, MANIFEST_HEADER as u64)?.try_into().unwrap_or_default();
    let (length, epoch) = parse_header(&header)?;
    check_size(&library, address, MANIFEST_HEADER as u64 + length as u64)?;
    let json =
        bytes_at(&library, data, address.saturating_add(MANIFEST_HEADER as u64), length as u64)?;
    let json = String::from_utf8(json.to_vec()).map_err(|_| invalid("it is not UTF-8"))?;
    serde_json::from_str::<serde::de::IgnoredAny>(&json)
        .map_err(|error| invalid(&format!("it is not JSON: {error}")))?;
    Ok(RawManifest { epoch, json })
}

/// The length of the JSON and the ABI epoch.
fn parse_header(header: &[u8; MANIFEST_HEADER]) -> Result<(usize, u32)> {
    if header[..8] != MANIFEST_MAGIC {
        return Err(invalid("it does not begin as a manifest does"));
    }
    let number = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    match usize::try_from(number(8)) {
        Ok(length) if length <= limits::MANIFEST => Ok((length, number(12))),
        _ => Err(invalid(&format!("its length, {} bytes, cannot be right", number(8)))),
    }
}

/// The member of a fat Mach-O file that suits this processor.
fn fat_member<'data, Arch: FatArch, R: object::read::ReadCacheOps>(
    members: &[Arch],
    cache: &'data ReadCache<R>,
) -> Result<object::read::ReadCacheRange<'data, R>> {
    check_system(BinaryFormat::MachO)?;
    let wanted = own_architecture();
    match members.iter().find(|member| Some(member.architecture()) == wanted) {
        Some(member) => {
            let (offset, size) = member.file_range();
            Ok(cache.range(offset, size))
        }
        None => {
            let names: Vec<&str> =
                members.iter().map(|member| architecture_name(member.architecture())).collect();
            Err(other_processor(&names.join(" and ")))
        }
    }
}

fn manifest_address<'data, R: ReadRef<'data>>(library: &Library<'data, R>) -> Result<u64> {
    let wanted = |name: &[u8]| {
        let name = match library.format() {
            BinaryFormat::MachO => name.strip_prefix(b"_").unwrap_or(name),
            _ => name,
        };
        name == MANIFEST_SYMBOL.as_bytes()
    };
    for export in library.exports().map_err(damaged)?.take(EXPORTS) {
        let export = export.map_err(damaged)?;
        if let NameOrOrdinal::Name(name) = export.name()
            && wanted(name)
        {
            return match export.target() {
                ExportTarget::Address { address } => Ok(address),
                _ => Err(invalid("its symbol is not data")),
            };
        }
    }
    Err(Error::new(codes::PLUGIN_NO_MANIFEST, "the library is not an anemll plugin")
        .with_hint(format!("a plugin exports the symbol {MANIFEST_SYMBOL}; see `export_plugin!`")))
}

/// Whether the symbol at `address` has the size that its header says, where the format records sizes:
/// ELF does.
fn check_size<'data, R: ReadRef<'data>>(
    library: &Library<'data, R>,
    address: u64,
    expected: u64,
) -> Result<()> {
    if library.format() != BinaryFormat::Elf {
        return Ok(());
    }
    let is_it = |symbol: &object::Symbol<'data, '_, R>| {
        symbol.address() == address && symbol.name_bytes() == Ok(MANIFEST_SYMBOL.as_bytes())
    };
    match library.dynamic_symbols().take(EXPORTS).find(is_it).map(|symbol| symbol.size()) {
        Some(size) if size != expected => Err(invalid(&format!(
            "its symbol has {size} bytes, but its header makes that {expected}"
        ))),
        _ => Ok(()),
    }
}

/// Bytes of the loaded image; reads no more of the file than these.
fn bytes_at<'data, R: ReadRef<'data>>(
    library: &Library<'data, R>,
    data: R,
    address: u64,
    length: u64,
) -> Result<&'data [u8]> {
    let place = library.segments().find_map(|segment| {
        let inside = address.checked_sub(segment.address())?;
        let (offset, size) = segment.file_range();
        match inside.checked_add(length)? <= size {
            true => offset.checked_add(inside),
            false => None,
        }
    });
    place
        .and_then(|offset| data.read_bytes_at(offset, length).ok())
        .ok_or_else(|| invalid("its symbol points outside of the file"))
}

fn check_system(format: BinaryFormat) -> Result<()> {
    let (own, own_name) = match () {
        () if cfg!(target_vendor = "apple") => (BinaryFormat::MachO, "macOS"),
        () if cfg!(windows) => (BinaryFormat::Pe, "Windows"),
        () => (BinaryFormat::Elf, "Linux"),
    };
    if format == own {
        return Ok(());
    }
    let name = match format {
        BinaryFormat::MachO => "macOS",
        BinaryFormat::Pe => "Windows",
        BinaryFormat::Elf => "Linux",
        _ => "another system",
    };
    Err(Error::new(
        codes::PLUGIN_OTHER_SYSTEM,
        format!("the plugin was built for {name}; this program runs on {own_name}"),
    )
    .with_hint(format!("get a build of the plugin for {own_name}")))
}

fn check_processor(architecture: Architecture) -> Result<()> {
    match own_architecture() {
        Some(own) if own != architecture => Err(other_processor(architecture_name(architecture))),
        // On a processor that is not in the list the system's loader decides.
        _ => Ok(()),
    }
}

fn other_processor(built_for: &str) -> Error {
    let own = own_architecture().map_or(std::env::consts::ARCH, architecture_name);
    Error::new(
        codes::PLUGIN_OTHER_CPU,
        format!("the plugin was built for {built_for}; this program runs on {own}"),
    )
    .with_hint(format!("get a build of the plugin for {own}"))
}

fn own_architecture() -> Option<Architecture> {
    match std::env::consts::ARCH {
        "x86_64" => Some(Architecture::X86_64),
        "aarch64" => Some(Architecture::Aarch64),
        "x86" => Some(Architecture::I386),
        "arm" => Some(Architecture::Arm),
        "riscv64" => Some(Architecture::Riscv64),
        _ => None,
    }
}

fn architecture_name(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "x86_64",
        Architecture::Aarch64 => "aarch64",
        Architecture::I386 => "x86",
        Architecture::Arm => "arm",
        Architecture::Riscv64 => "riscv64",
        _ => "another processor",
    }
}

fn not_a_library(why: &str) -> Error {
    Error::new(codes::PLUGIN_NOT_A_LIBRARY, format!("the plugin is not a shared library: {why}"))
}

fn damaged(error: object::read::Error) -> Error {
    not_a_library(&format!("it is damaged ({error})"))
}

fn invalid(why: &str) -> Error {
    Error::new(
        codes::PLUGIN_MANIFEST_INVALID,
        format!("the plugin's manifest cannot be used: {why}"),
    )
    .with_hint("this is a bug in the plugin; please report it to its author")
}
