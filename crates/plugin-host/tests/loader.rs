//! Files that are not plugins, or not for us: each has its own code and says so in one line.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use anemll_codes as codes;
use anemll_plugin_api::*;
use anemll_plugin_host::{manifest_of_file, open};

/// A minimal ELF library for this processor, whose only symbol is `name` with these bytes; `size` is
/// that of the file's segment.
#[cfg(target_os = "linux")]
fn library(name: &str, bytes: &[u8], size: u64) -> Vec<u8> {
    library_with(name, bytes, size, bytes.len() as u64)
}

/// The same, with a symbol that says it had `symbol_size` bytes.
#[cfg(target_os = "linux")]
fn library_with(name: &str, bytes: &[u8], size: u64, symbol_size: u64) -> Vec<u8> {
    let machine: u16 = match std::env::consts::ARCH {
        "x86_64" => 62,
        "aarch64" => 183,
        other => panic!("a test for {other} is missing"),
    };
    let mut names = vec![0];
    names.extend_from_slice(name.as_bytes());
    names.push(0);
    let (data_at, names_at) = (0x1000u64, 0x1000 + bytes.len() as u64);
    let symbols_at = (names_at + names.len() as u64).next_multiple_of(8);
    let sections_at = symbols_at + 48;
    let mut file = Vec::new();
    file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for value in [3, machine] {
        file.extend_from_slice(&value.to_le_bytes());
    }
    file.extend_from_slice(&1u32.to_le_bytes());
    for value in [0, 64, sections_at] {
        file.extend_from_slice(&value.to_le_bytes());
    }
    file.extend_from_slice(&0u32.to_le_bytes());
    for value in [64u16, 56, 1, 64, 3, 2] {
        file.extend_from_slice(&value.to_le_bytes());
    }
    // One loaded segment with the symbol's bytes.
    file.extend_from_slice(&1u32.to_le_bytes());
    file.extend_from_slice(&4u32.to_le_bytes());
    for value in [data_at, data_at, data_at, size, size, 0x1000] {
        file.extend_from_slice(&value.to_le_bytes());
    }
    file.resize(data_at as usize, 0);
    file.extend_from_slice(bytes);
    file.extend_from_slice(&names);
    file.resize(symbols_at as usize, 0);
    // The empty symbol, then ours: a global object in section 1.
    file.extend_from_slice(&[0; 24]);
    file.extend_from_slice(&1u32.to_le_bytes());
    file.extend_from_slice(&[0x11, 0, 1, 0]);
    for value in [data_at, symbol_size] {
        file.extend_from_slice(&value.to_le_bytes());
    }
    // Sections: none, the symbols, their names.
    let mut section = |kind: u32, at: u64, size: u64, link: u32, info: u32, entry: u64| {
        for value in [0, kind] {
            file.extend_from_slice(&value.to_le_bytes());
        }
        for value in [2, at, at, size] {
            file.extend_from_slice(&value.to_le_bytes());
        }
        for value in [link, info] {
            file.extend_from_slice(&value.to_le_bytes());
        }
        for value in [8, entry] {
            file.extend_from_slice(&value.to_le_bytes());
        }
    };
    section(0, 0, 0, 0, 0, 0);
    section(11, symbols_at, 48, 2, 1, 24);
    section(3, names_at, names.len() as u64, 0, 0, 0);
    file
}

#[cfg(target_os = "linux")]
fn symbol(epoch: u32, json: &str) -> Vec<u8> {
    let mut bytes = b"ANEMLLPM".to_vec();
    bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&epoch.to_le_bytes());
    bytes.extend_from_slice(json.as_bytes());
    bytes
}

const MANIFEST: &str = r#"{"name": "stub", "version": "0.1.0", "abi": 1,
    "components": [{"stage": "arch", "id": "stub"}]}"#;

/// The refusal of a file with these contents, by both ways to look at one.
#[track_caller]
fn refusal(contents: &[u8]) -> Error {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plugin.so");
    std::fs::write(&path, contents).unwrap();
    let error = open(&path).unwrap_err();
    if error.code != codes::PLUGIN_OPEN_FAILED {
        assert_eq!(manifest_of_file(&path).unwrap_err(), error);
    }
    check_words(&error, &path);
    error
}

#[track_caller]
fn check_words(error: &Error, path: &Path) {
    assert!(!error.message.contains('\n'), "{error:?}");
    assert_eq!(error.at.as_deref(), Some(&*path.display().to_string()));
}

#[test]
fn a_path_that_is_no_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path().join("missing.so"), directory.path().to_owned()] {
        let error = open(&path).unwrap_err();
        assert_eq!(error.code, codes::PLUGIN_UNREADABLE);
        check_words(&error, &path);
    }
    // A device or a pipe: reading could wait for ever.
    #[cfg(unix)]
    assert_eq!(open(Path::new("/dev/zero")).unwrap_err().code, codes::PLUGIN_UNREADABLE);
}

#[test]
fn what_is_no_library_is_refused() {
    let files: [&[u8]; 5] = [b"", b"\x7f", b"hello, world\n", b"!<arch>\n", &[0; 5000]];
    for contents in files {
        assert_eq!(refusal(contents).code, codes::PLUGIN_NOT_A_LIBRARY, "{contents:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_library_of_another_system_or_processor_is_refused() {
    // Headers of Mach-O files: one for aarch64, and a fat one.
    let mut thin = vec![0xcf, 0xfa, 0xed, 0xfe, 0x0c, 0, 0, 1, 0, 0, 0, 0, 6, 0, 0, 0];
    thin.resize(64, 0);
    let mut fat = vec![0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 1, 1, 0, 0, 0x0c];
    fat.resize(64, 0);
    // A program library of Windows: DOS header, COFF header for x86-64 with the flag of a DLL, and
    // an optional header of the 64-bit form.
    let mut windows = vec![0; 1024];
    windows[..2].copy_from_slice(b"MZ");
    windows[0x3c] = 0x80;
    windows[0x80..0x84].copy_from_slice(b"PE\0\0");
    windows[0x84..0x86].copy_from_slice(&0x8664_u16.to_le_bytes());
    windows[0x94..0x96].copy_from_slice(&240_u16.to_le_bytes());
    windows[0x96..0x98].copy_from_slice(&0x2022_u16.to_le_bytes());
    windows[0x98..0x9a].copy_from_slice(&0x20b_u16.to_le_bytes());
    windows[0x104..0x108].copy_from_slice(&16_u32.to_le_bytes());
    for (contents, name) in [(thin, "macOS"), (fat, "macOS"), (windows, "Windows")] {
        let error = refusal(&contents);
        assert_eq!(error.code, codes::PLUGIN_OTHER_SYSTEM, "{error:?}");
        let message = format!("the plugin was built for {name}; this program runs on Linux");
        assert_eq!(error.message, message);
        assert_eq!(error.hint.as_deref(), Some("get a build of the plugin for Linux"));
    }
    let mut other = library("ANEMLL_PLUGIN_MANIFEST", &symbol(1, MANIFEST), 2048);
    other[18] = if cfg!(target_arch = "x86_64") { 183 } else { 62 };
    let error = refusal(&other);
    assert_eq!(error.code, codes::PLUGIN_OTHER_CPU);
    assert!(error.hint.unwrap().contains(std::env::consts::ARCH));
}

#[test]
fn a_program_without_a_manifest_is_refused() {
    let error = open(&std::env::current_exe().unwrap()).unwrap_err();
    let codes = [codes::PLUGIN_NO_MANIFEST, codes::PLUGIN_NOT_A_LIBRARY];
    assert!(codes.contains(&error.code.as_str()), "{error:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn each_way_in_which_a_manifest_is_wrong_has_its_code() {
    let of = |symbol: &[u8]| refusal(&library("ANEMLL_PLUGIN_MANIFEST", symbol, 2048));
    let right = symbol(1, MANIFEST);
    assert_eq!(refusal(&library("SOMETHING_ELSE", &right, 2048)).code, codes::PLUGIN_NO_MANIFEST);

    let mut magic = right.clone();
    magic[0] = b'a';
    let mut length = right.clone();
    length[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut text = right.clone();
    text[20] = 0xff;
    for bytes in [&magic, &length, &text, &symbol(1, "{"), &symbol(1, ""), &symbol(1, "{}")] {
        assert_eq!(of(bytes).code, codes::PLUGIN_MANIFEST_INVALID);
    }
    let outside = refusal(&library("ANEMLL_PLUGIN_MANIFEST", &right, 8));
    assert_eq!(outside.code, codes::PLUGIN_MANIFEST_INVALID);
    // The symbol is as long as its header says, no shorter and no longer.
    for size in [0, 8, right.len() as u64 - 1, right.len() as u64 + 1, u64::MAX] {
        let error = refusal(&library_with("ANEMLL_PLUGIN_MANIFEST", &right, 2048, size));
        assert_eq!(error.code, codes::PLUGIN_MANIFEST_INVALID);
        assert!(error.message.contains(&format!("its symbol has {size} bytes")), "{error}");
    }
    let disagrees = of(&symbol(1, &MANIFEST.replace("\"abi\": 1", "\"abi\": 2")));
    assert_eq!(disagrees.code, codes::PLUGIN_MANIFEST_INVALID);

    // A manifest of another epoch need not have our form.
    let error = of(&symbol(2, r#"{"name": "newer", "components": 7}"#));
    assert_eq!(error.code, codes::PLUGIN_OTHER_EPOCH);
    assert_eq!(error.message, "plugin `newer` needs plugin ABI 2; this program offers ABI 1");

    let component = r#"{"stage": "arch", "id": "stub"}"#;
    let twice = MANIFEST.replace(component, &format!("{component}, {component}"));
    assert_eq!(of(&symbol(1, &twice)).code, codes::PLUGIN_DUPLICATE_ID);
    let options =
        r#"{"stage": "arch", "id": "stub", "options": {"x": {"type": "integer", "default": ""}}}"#;
    let schema = of(&symbol(1, &MANIFEST.replace(component, options)));
    assert_eq!(schema.code, codes::PLUGIN_OPTIONS_SCHEMA);
    assert!(schema.causes[0].contains("stub.options.x"), "{schema:?}");

    // All is well but for the library itself, which the system refuses.
    let error = of(&right);
    assert_eq!(error.code, codes::PLUGIN_OPEN_FAILED, "{error:?}");
}

/// What would take memory or the stack, or drive a terminal, if it were read on trust.
#[test]
#[cfg(target_os = "linux")]
fn hostile_manifests_are_refused_at_once() {
    let of = |json: &str| {
        let bytes = symbol(1, json);
        let size = bytes.len() as u64;
        refusal(&library("ANEMLL_PLUGIN_MANIFEST", &bytes, size))
    };
    let manifest = |more: &str| MANIFEST.replace("\"abi\": 1,", &format!("\"abi\": 1, {more},"));
    // All of it is there: 100 MB of valid JSON.
    let error = of(&manifest(&format!("\"x\": \"{}\"", "y".repeat(100 << 20))));
    assert_eq!(error.code, codes::PLUGIN_MANIFEST_INVALID);
    assert!(error.message.contains("its length, 1048"), "{error}");
    // Nested as deep as the size allows: where it is ignored, where it is kept, and in a table.
    let depth = 250_000;
    let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let tables = format!("{}1{}", "{\"a\":".repeat(depth / 2), "}".repeat(depth / 2));
    for inside in [&nested, &tables] {
        let component = r#"{"stage": "arch", "id": "stub", "options": {"x": {"type": "string",
            "default": DEEP}}}"#;
        let kept = manifest("\"x\": 1")
            .replace(r#"{"stage": "arch", "id": "stub"}"#, &component.replace("DEEP", inside));
        assert_eq!(of(&kept).code, codes::PLUGIN_MANIFEST_INVALID);
        // What nobody reads does no harm; the file is no library in the end.
        let ignored = of(&manifest(&format!("\"x\": {inside}")));
        let codes = [codes::PLUGIN_OPEN_FAILED, codes::PLUGIN_MANIFEST_INVALID];
        assert!(codes.contains(&ignored.code.as_str()), "{ignored}");
    }
    // Names and texts that steer a terminal.
    for (key, evil) in [("name", "\\u001b]0;evil\\u0007"), ("version", "1\\u001b[2J")] {
        let old = if key == "name" { "stub" } else { "0.1.0" };
        let json = MANIFEST.replacen(
            &format!("\"{key}\": \"{old}\""),
            &format!("\"{key}\": \"{evil}\""),
            1,
        );
        let error = of(&json);
        assert_eq!(error.code, codes::PLUGIN_MANIFEST_INVALID);
        let text = format!("{error:?} {} {:?}", error.message, error.causes.join(" "));
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{text:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_damaged_library_never_brings_the_reader_down() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plugin.so");
    let whole = library("ANEMLL_PLUGIN_MANIFEST", &symbol(1, MANIFEST), 2048);
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(manifest_of_file(&path).unwrap().name, "stub");
    let header = (0..160).map(|place| (place, 0));
    let header_and_tables = (0..160).chain((4096..whole.len()).step_by(5));
    for (place, value) in header.chain(header_and_tables.map(|place| (place, 0xff))) {
        let mut damaged = whole.clone();
        damaged[place] = value;
        std::fs::write(&path, &damaged).unwrap();
        // Some of these are still manifests; none may do more than be refused.
        let _ = manifest_of_file(&path);
    }
    for length in (0..whole.len()).step_by(97) {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(manifest_of_file(&path).is_err(), "{length} bytes");
    }
}
