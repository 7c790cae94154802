//! Parts of a conversion by the names that ANEMLL's scripts give them.

use super::{CombineArguments, Job, usage};
use anemll_codes as codes;
use anemll_layout::anemll::{self, Stem};
use anemll_layout::{INFER, PREFILL};
use anemll_multifunction::{PartsCheck, Source};
use anemll_plugin_api::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const SUFFIX: &str = ".mlpackage";

/// What is joined: the functions with the parts that have them, and the part that results.
struct Kind {
    functions: [(&'static str, &'static str); 2],
    combined: &'static str,
}

const CHUNKS: Kind = Kind {
    functions: [(INFER, anemll::INFER), (PREFILL, anemll::PREFILL)],
    combined: anemll::COMBINED,
};
const WHOLE: Kind = Kind {
    functions: [(INFER, anemll::WHOLE), (PREFILL, anemll::WHOLE_PREFILL)],
    combined: anemll::WHOLE_COMBINED,
};

/// A package that is a part of one of the two kinds.
fn read(name: &str) -> Option<Stem> {
    let stem = Stem::read(name.strip_suffix(SUFFIX)?)?;
    let kind = if stem.chunk.is_some() { CHUNKS } else { WHOLE };
    kind.functions.iter().any(|(_, part)| *part == stem.part).then_some(stem)
}

fn count(part: &Stem) -> Option<u32> {
    part.chunk.map(|(_, count)| count)
}

/// The jobs that `--chunk` or `--monolithic` ask for: every package that is to be made.
pub(super) fn find(arguments: &CombineArguments) -> Result<Vec<Job>> {
    let directory = arguments.input.clone().unwrap_or_else(|| PathBuf::from("."));
    let output = arguments.output.clone().unwrap_or_else(|| directory.clone());
    if output.extension().is_some_and(|extension| extension == "mlpackage") {
        return Err(usage(
            "with `--chunk` and `--monolithic` the output is a directory",
            "name a directory with --output; the packages' names follow from those of the parts",
        )
        .with_at(output.display().to_string()));
    }
    if arguments.chunk == Some(0) {
        return Err(usage("`--chunk 0`: a conversion has at least one chunk", "count from 1"));
    }
    let lut = arguments.lut.as_deref().map(bits).transpose()?.flatten();
    let all = list(&directory)?;
    let wanted = Wanted { directory: &directory, count: arguments.chunk, lut, all: &all };
    let (prefix, lut_in_names) = wanted.choose(arguments.prefix.as_deref())?;
    wanted.jobs(&prefix, lut_in_names, &output)
}

/// The bits of `4`, `4,8` and `4,tensor`; none of `none`.
fn bits(text: &str) -> Result<Option<u32>> {
    let bits = text.split(',').next().unwrap_or_default();
    if bits == "none" {
        return Ok(None);
    }
    match bits.parse().ok() {
        Some(bits @ (1 | 2 | 3 | 4 | 6 | 8)) => Ok(Some(bits)),
        _ => Err(usage(format!("`{text}` is no LUT"), "write 1, 2, 3, 4, 6 or 8 bits, or none")
            .with_at("--lut")),
    }
}

fn list(directory: &Path) -> Result<Vec<Stem>> {
    let failed = |source: std::io::Error| {
        let what = "cannot read the directory of the parts";
        crate::error::io(codes::PACKAGE_UNREADABLE, what, directory, &source)
    };
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        parts.extend(name.to_str().and_then(read));
    }
    parts.sort();
    Ok(parts)
}

/// What is looked for, and what is there.
struct Wanted<'a> {
    directory: &'a Path,
    /// Number of chunks; none for monolithic parts.
    count: Option<u32>,
    lut: Option<u32>,
    all: &'a [Stem],
}

impl Wanted<'_> {
    fn kind(&self) -> Kind {
        if self.count.is_some() { CHUNKS } else { WHOLE }
    }

    fn name(&self, prefix: &str, part: &str, lut: Option<u32>, number: u32) -> String {
        let chunk = self.count.map(|count| (number, count));
        anemll::stem(prefix, part, lut, chunk) + SUFFIX
    }

    fn missing(&self, message: String, hint: String) -> Error {
        Error::new(codes::PACKAGE_UNREADABLE, message)
            .with_at(self.directory.display().to_string())
            .with_hint(hint)
    }

    /// The prefix, and the LUT bits as they stand in the names.
    fn choose(&self, given: Option<&str>) -> Result<(String, Option<u32>)> {
        let layout: Vec<&Stem> =
            self.all.iter().filter(|part| part.chunk.is_some() == self.count.is_some()).collect();
        let prefixes: BTreeSet<&str> = layout.iter().map(|part| part.prefix.as_str()).collect();
        let listed = join(&prefixes);
        let example = |prefix: &str| {
            let name = |(_, part)| self.name(prefix, part, self.lut, 1);
            let [first, second] = self.kind().functions.map(name);
            format!("`{first}` and `{second}`")
        };
        if prefixes.is_empty() {
            return Err(self.missing(
                format!("no parts found: looked for {}", example(given.unwrap_or("PREFIX"))),
                "convert first, or name the directory of the parts with --input".to_owned(),
            ));
        }
        let prefix = match (given, prefixes.len()) {
            (Some(given), _) if prefixes.contains(given) => given.to_owned(),
            (Some(given), _) => {
                return Err(self.missing(
                    format!("no parts have the prefix `{given}`; those here have {listed}"),
                    "choose one of them with --prefix".to_owned(),
                ));
            }
            (None, 1) => listed.trim_matches('`').to_owned(),
            (None, _) => {
                return Err(self.missing(
                    format!("there are parts with several prefixes: {listed}"),
                    "choose one of them with --prefix".to_owned(),
                ));
            }
        };
        let of_prefix: Vec<&Stem> =
            layout.into_iter().filter(|part| part.prefix == prefix).collect();
        self.check_count(&of_prefix)?;
        let of_count: Vec<&Stem> =
            of_prefix.into_iter().filter(|part| count(part) == self.count).collect();
        let luts: BTreeSet<Option<u32>> = of_count.iter().map(|part| part.bits).collect();
        if luts.contains(&self.lut) {
            return Ok((prefix, self.lut));
        }
        if self.count.is_none() && luts.contains(&None) {
            // Monolithic names carry no bits; the metadata are asked instead.
            return Ok((prefix, None));
        }
        let there: BTreeSet<String> = luts.iter().map(|lut| lut_text(*lut)).collect();
        let there: BTreeSet<&str> = there.iter().map(String::as_str).collect();
        let flags: Vec<String> = luts
            .iter()
            .map(|lut| lut.map_or("no --lut".to_owned(), |bits| format!("--lut {bits}")))
            .collect();
        Err(self.missing(
            format!(
                "the parts that are there have {}, not {}",
                join(&there).replace('`', ""),
                lut_text(self.lut)
            ),
            format!("give {}", flags.join(" or ")),
        ))
    }

    fn check_count(&self, parts: &[&Stem]) -> Result<()> {
        if parts.iter().any(|part| count(part) == self.count) {
            return Ok(());
        }
        let counts: BTreeSet<u32> = parts.iter().filter_map(|part| count(part)).collect();
        let counts: Vec<String> = counts.iter().map(u32::to_string).collect();
        Err(self.missing(
            format!(
                "the parts that are there are of {} chunks, not {}",
                counts.join(" or "),
                self.count.unwrap_or_default()
            ),
            format!("give --chunk {}", counts.join(" or --chunk ")),
        ))
    }

    fn jobs(&self, prefix: &str, lut: Option<u32>, output: &Path) -> Result<Vec<Job>> {
        let mut jobs = Vec::new();
        let mut missing = BTreeMap::new();
        for number in 1..=self.count.unwrap_or(1) {
            let mut sources = Vec::new();
            for (function, part) in self.kind().functions {
                let name = self.name(prefix, part, lut, number);
                let path = self.directory.join(&name);
                if !path.exists() {
                    missing.insert(name, function);
                    if missing.len() > LONGEST_LIST {
                        break;
                    }
                }
                let function = function.to_owned();
                sources.push(Source { name: function, path, function: None });
            }
            let mut expected = BTreeMap::new();
            if let Some(count) = self.count {
                expected.insert("chunk_no".to_owned(), number.to_string());
                expected.insert("num_chunks".to_owned(), count.to_string());
            }
            if let Some(bits) = self.lut {
                expected.insert("lut_bits".to_owned(), bits.to_string());
            }
            let combined = self.kind().combined;
            jobs.push(Job {
                sources,
                parts: Some(PartsCheck { expected }),
                output: output.join(self.name(prefix, combined, lut, number)),
                default: None,
            });
            if missing.len() > LONGEST_LIST {
                break;
            }
        }
        if missing.is_empty() {
            return Ok(jobs);
        }
        let functions: BTreeSet<&str> = missing.values().copied().collect();
        let names: BTreeSet<&str> = missing.keys().map(String::as_str).take(LONGEST_LIST).collect();
        let more = if missing.len() > LONGEST_LIST { " and more" } else { "" };
        Err(self.missing(
            format!("parts are missing: {}{more}", join(&names)),
            format!(
                "combining needs both models: make the {} part first (the step before `combine`)",
                functions.into_iter().collect::<Vec<_>>().join(" and the ")
            ),
        ))
    }
}

/// Missing names that are listed.
const LONGEST_LIST: usize = 8;

fn lut_text(lut: Option<u32>) -> String {
    lut.map_or_else(|| "no LUT bits in their names".to_owned(), |bits| format!("LUT bits {bits}"))
}

fn join(names: &BTreeSet<&str>) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::create_dir(folder.path().join(format!("{name}.mlpackage"))).unwrap();
        }
        folder
    }

    fn arguments(folder: &tempfile::TempDir) -> CombineArguments {
        CombineArguments { input: Some(folder.path().to_owned()), ..CombineArguments::default() }
    }

    fn name(path: &Path) -> &str {
        path.file_name().unwrap().to_str().unwrap()
    }

    #[test]
    fn chunks_are_found_by_their_names() {
        let folder = folder(&[
            "llama_FFN_lut4_chunk_01of02",
            "llama_FFN_lut4_chunk_02of02",
            "llama_prefill_lut4_chunk_01of02",
            "llama_prefill_lut4_chunk_02of02",
            "llama_FFN_PF_lut4_chunk_01of02",
            "llama_embeddings",
            "llama_lm_head_lut6",
        ]);
        let wanted = CombineArguments {
            chunk: Some(2),
            lut: Some("4,8".to_owned()),
            output: Some("out".into()),
            ..arguments(&folder)
        };
        let jobs = find(&wanted).unwrap();
        assert_eq!(jobs.len(), 2);
        assert_eq!(jobs[1].output, Path::new("out/llama_FFN_PF_lut4_chunk_02of02.mlpackage"));
        assert_eq!(jobs[1].sources[0].name, "infer");
        assert_eq!(name(&jobs[1].sources[0].path), "llama_FFN_lut4_chunk_02of02.mlpackage");
        assert_eq!(name(&jobs[1].sources[1].path), "llama_prefill_lut4_chunk_02of02.mlpackage");
        let expected = &jobs[1].parts.as_ref().unwrap().expected;
        assert_eq!(expected["chunk_no"], "2");
        assert_eq!(expected["lut_bits"], "4");
    }

    #[test]
    fn monolithic_parts_with_and_without_bits_in_their_names() {
        let plain = folder(&["qwen_monolithic", "qwen_monolithic_prefill"]);
        let wanted =
            CombineArguments { monolithic: true, lut: Some("6".to_owned()), ..arguments(&plain) };
        let jobs = find(&wanted).unwrap();
        assert_eq!(jobs[0].output, plain.path().join("qwen_monolithic_combined.mlpackage"));
        assert_eq!(jobs[0].parts.as_ref().unwrap().expected["lut_bits"], "6");
        let suffixed = folder(&["qwen_monolithic_lut6", "qwen_monolithic_prefill_lut6"]);
        let wanted = CombineArguments { input: Some(suffixed.path().to_owned()), ..wanted };
        let jobs = find(&wanted).unwrap();
        assert_eq!(name(&jobs[0].output), "qwen_monolithic_combined_lut6.mlpackage");
    }

    /// What is there, what is asked for, and what the error says.
    #[test]
    fn what_is_not_there_is_named() {
        let chunks = |count: u32, lut: Option<&str>, prefix: Option<&str>| CombineArguments {
            chunk: Some(count),
            lut: lut.map(str::to_owned),
            prefix: prefix.map(str::to_owned),
            ..CombineArguments::default()
        };
        let whole = CombineArguments { monolithic: true, ..CombineArguments::default() };
        let both = ["llama_FFN_lut4_chunk_01of01", "llama_prefill_lut4_chunk_01of01"];
        let two = [both[0], both[1], "qwen_FFN_lut4_chunk_01of01"];
        let cases: Vec<(&[&str], CombineArguments, &str)> = vec![
            (&[], chunks(1, Some("4"), None), "`PREFIX_FFN_lut4_chunk_01of01.mlpackage` and"),
            (&both, chunks(1, Some("6"), None), "have LUT bits 4, not LUT bits 6"),
            (&both, chunks(1, None, None), "have LUT bits 4, not no LUT bits in their names"),
            (&both, chunks(2, Some("4"), None), "of 1 chunks, not 2"),
            (
                &both,
                chunks(1, Some("4"), Some("qwen")),
                "no parts have the prefix `qwen`; those here have `llama`",
            ),
            (&two, chunks(1, Some("4"), None), "several prefixes: `llama`, `qwen`"),
            (&both[..1], chunks(1, Some("4"), None), "missing: `llama_prefill_lut4_chunk_01of01"),
            (&both[1..], chunks(1, Some("4"), None), "missing: `llama_FFN_lut4_chunk_01of01"),
            (&["x_monolithic"], whole, "missing: `x_monolithic_prefill.mlpackage`"),
        ];
        for (names, wanted, message) in cases {
            let folder = folder(names);
            let wanted = CombineArguments { input: Some(folder.path().to_owned()), ..wanted };
            let error = find(&wanted).err().unwrap();
            assert_eq!(error.code, codes::PACKAGE_UNREADABLE);
            assert!(error.message.contains(message), "{:?} for {message:?}", error.message);
            assert!(error.hint.is_some());
        }
        let missing =
            CombineArguments { input: Some("/nowhere/at/all".into()), ..chunks(1, None, None) };
        assert!(find(&missing).err().unwrap().at.unwrap().contains("nowhere"));
        for wrong in [chunks(0, None, None), chunks(1, Some("5"), None), chunks(1, Some("x"), None)]
        {
            assert_eq!(find(&wrong).err().unwrap().code, codes::USAGE, "{wrong:?}");
        }
        let many = chunks(u32::MAX, Some("4"), None);
        let folder = folder(&["llama_FFN_lut4_chunk_01of4294967295"]);
        let many = CombineArguments { input: Some(folder.path().to_owned()), ..many };
        assert!(find(&many).err().unwrap().message.ends_with("and more"));
    }

    #[test]
    fn other_names_are_no_parts() {
        for name in [
            "llama_embeddings.mlpackage",
            "llama_FFN_PF_chunk_01of02.mlpackage",
            "_FFN_chunk_01of02.mlpackage",
            "llama_FFN_chunk_01.mlpackage",
            "llama_FFN_chunk_1xof2.mlpackage",
            "llama_FFN_chunk_01of02",
            "llama_FFN_chunk_01of99999999999.mlpackage",
            "llama_monolithic_combined.mlpackage",
        ] {
            assert_eq!(read(name), None, "{name}");
        }
        let part = read("a_lut_x_FFN_chunk_01of02.mlpackage").unwrap();
        assert_eq!((part.prefix.as_str(), part.bits), ("a_lut_x", None));
    }
}
