//! Finding the packages of one part of a conversion by ANEMLL's names.

use super::CompileArguments;
use crate::error::io;
use anemll_codes as codes;
use anemll_layout::anemll::{self, Stem};
use anemll_plugin_api::{Error, Result};
use std::path::{Path, PathBuf};

/// The prefix that ANEMLL's scripts take when none is given.
const PREFIX: &str = "llama";
/// How deep `--recursive` looks.
const DEEPEST: usize = 16;

/// Which part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Embeddings,
    Layers,
    Head,
    Monolithic,
    All,
}

/// A part of a conversion, and what is known of its packages' names.
#[derive(Debug)]
pub(super) struct Parts {
    part: Part,
    bits: Option<u32>,
    chunks: Option<u32>,
    prefix: Option<String>,
    input: PathBuf,
    recursive: bool,
}

impl Parts {
    /// The part that the command line asks for; `None` where it names packages.
    pub(super) fn asked_for(arguments: &CompileArguments) -> Result<Option<Self>> {
        let part = match arguments.targets.as_slice() {
            [only] => match only.to_str() {
                Some("1") => Some(Part::Embeddings),
                Some("2") => Some(Part::Layers),
                Some("3") => Some(Part::Head),
                Some("monolithic") => Some(Part::Monolithic),
                Some("all") => Some(Part::All),
                _ => None,
            },
            _ => None,
        };
        let usage = |message: &str| Err(Error::new(codes::USAGE, message));
        let Some(part) = part else {
            let only_of_parts = [
                ("--lut", arguments.lut.is_some()),
                ("--chunk", arguments.chunk.is_some()),
                ("--prefix", arguments.prefix.is_some()),
                ("--input-dir", arguments.input_dir.is_some()),
                ("--recursive", arguments.recursive),
            ];
            return match only_of_parts.iter().find(|(_, given)| *given) {
                Some((flag, _)) => usage(&format!(
                    "{flag} is for a PART of a conversion (1, 2, 3, monolithic, all), not for \
                     packages that are named"
                )),
                None => Ok(None),
            };
        };
        if arguments.recursive && part != Part::All {
            return usage("--recursive is for the part `all`");
        }
        if arguments.chunk == Some(0) {
            return usage("--chunk 0: there is at least one chunk");
        }
        Ok(Some(Self {
            part,
            bits: bits(arguments.lut.as_deref())?,
            chunks: arguments.chunk,
            prefix: arguments.prefix.clone(),
            input: arguments.input_dir.clone().unwrap_or_else(|| PathBuf::from(".")),
            recursive: arguments.recursive,
        }))
    }

    /// The packages, all of which are there.
    pub(super) fn packages(&self) -> Result<Vec<PathBuf>> {
        let mut all = Vec::new();
        list(&self.input, self.recursive, DEEPEST, &mut all)?;
        all.sort();
        if self.part == Part::All {
            if all.is_empty() {
                let below = if self.recursive { " and below" } else { "" };
                return Err(missing(&format!("*.mlpackage{below}"), &self.input));
            }
            return Ok(all);
        }
        let names: Vec<String> =
            all.iter().filter_map(|path| path.file_stem()?.to_str().map(str::to_owned)).collect();
        let endings = self.endings(&names)?;
        let prefix = self.prefix(&names, &endings)?;
        let mut looked_for = Vec::new();
        for group in &endings {
            let wanted: Vec<String> =
                group.iter().map(|ending| format!("{prefix}{ending}")).collect();
            if wanted.iter().all(|name| names.contains(name)) {
                let path = |name: &String| self.input.join(format!("{name}.mlpackage"));
                return Ok(wanted.iter().map(path).collect());
            }
            let lacking: Vec<String> = wanted
                .into_iter()
                .filter(|name| !names.contains(name))
                .map(|name| format!("{name}.mlpackage"))
                .collect();
            looked_for.push(lacking.join(" and "));
        }
        Err(missing(&looked_for.join(", or "), &self.input))
    }

    /// What may stand after the prefix: groups of packages that belong together, the best first.
    fn endings(&self, names: &[String]) -> Result<Vec<Vec<String>>> {
        let ending = |part: &str, bits| anemll::stem("", part, bits, None);
        let one = |ending: String| vec![ending];
        Ok(match self.part {
            Part::Embeddings => {
                // Embeddings often stay in 16 bits beside palettized layers.
                let mut endings = vec![one(ending(anemll::EMBEDDINGS, self.bits))];
                if self.bits.is_some() {
                    endings.push(one(ending(anemll::EMBEDDINGS, None)));
                }
                endings
            }
            Part::Head => vec![one(ending(anemll::HEAD, self.bits))],
            Part::Monolithic => vec![
                one(ending(anemll::WHOLE_COMBINED, None)),
                one(ending(anemll::WHOLE_FULL, self.bits)),
                [anemll::WHOLE, anemll::WHOLE_PREFILL].map(|part| ending(part, None)).to_vec(),
            ],
            Part::Layers => {
                let chunks = match self.chunks {
                    Some(chunks) => chunks,
                    None => self.number_of_chunks(names)?,
                };
                let all = |part: &str| -> Vec<String> {
                    (1..=chunks)
                        .map(|number| anemll::stem("", part, self.bits, Some((number, chunks))))
                        .collect()
                };
                vec![all(anemll::COMBINED), [all(anemll::INFER), all(anemll::PREFILL)].concat()]
            }
            Part::All => Vec::new(),
        })
    }

    /// Read off the names of first chunks.
    fn number_of_chunks(&self, names: &[String]) -> Result<u32> {
        let fits = |stem: &Stem| {
            [anemll::COMBINED, anemll::INFER].contains(&stem.part)
                && stem.bits == self.bits
                && self.prefix.as_ref().is_none_or(|prefix| *prefix == stem.prefix)
        };
        let mut found: Vec<u32> = names
            .iter()
            .filter_map(|name| Stem::read(name))
            .filter(fits)
            .filter_map(|stem| stem.chunk.filter(|(number, _)| *number == 1))
            .map(|(_, count)| count)
            .collect();
        found.sort_unstable();
        found.dedup();
        match found.as_slice() {
            [only] => Ok(*only),
            [] => {
                let first = anemll::stem("*", anemll::COMBINED, self.bits, None);
                Err(missing(&format!("{first}_chunk_01ofNN.mlpackage"), &self.input))
            }
            several => {
                Err(Error::new(codes::USAGE, format!("there are packages of {several:?} chunks"))
                    .with_at(self.input.display().to_string())
                    .with_hint("say with --chunk which are meant"))
            }
        }
    }

    /// The given prefix, or the only one of packages with these endings, or ANEMLL's default.
    fn prefix(&self, names: &[String], endings: &[Vec<String>]) -> Result<String> {
        if let Some(prefix) = &self.prefix {
            return Ok(prefix.clone());
        }
        let first = endings.iter().filter_map(|group| group.first());
        let mut found: Vec<&str> = first
            .flat_map(|ending| names.iter().filter_map(|name| name.strip_suffix(ending.as_str())))
            .collect();
        found.sort_unstable();
        found.dedup();
        match found.as_slice() {
            [] => Ok(PREFIX.to_owned()),
            all if all.contains(&PREFIX) => Ok(PREFIX.to_owned()),
            [only] => Ok((*only).to_owned()),
            several => Err(Error::new(
                codes::USAGE,
                format!("there are packages of several prefixes: {}", several.join(", ")),
            )
            .with_at(self.input.display().to_string())
            .with_hint("say with --prefix which are meant")),
        }
    }
}

fn missing(looked_for: &str, folder: &Path) -> Error {
    Error::new(codes::PACKAGE_UNREADABLE, format!("missing: {looked_for}"))
        .with_at(folder.display().to_string())
        .with_hint(
            "check --input-dir, --prefix, --lut and --chunk against the names of the packages",
        )
}

/// The bits of `4`, `4,8` and `4,tensor`; none of `none`.
fn bits(lut: Option<&str>) -> Result<Option<u32>> {
    let text = lut.unwrap_or("none").trim().to_lowercase();
    if ["none", "no", "false", ""].contains(&text.as_str()) {
        return Ok(None);
    }
    let bits = text.split(',').next().unwrap_or_default();
    match bits.parse::<u32>() {
        Ok(bits @ 1..=8) => Ok(Some(bits)),
        _ => Err(Error::new(
            codes::USAGE,
            format!("--lut {text:?}: give the bits of the packages' names, such as 4, or none"),
        )),
    }
}

/// The packages in a folder. Hidden folders are left out, as the shell's patterns do.
fn list(folder: &Path, recursive: bool, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |source: std::io::Error| {
        io(codes::PACKAGE_UNREADABLE, "the directory cannot be listed", folder, &source)
    };
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if path.extension().is_some_and(|extension| extension == "mlpackage") {
            found.push(path);
        } else if recursive && depth > 0 && entry.file_type().map_err(failed)?.is_dir() {
            list(&path, recursive, depth - 1, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(part: Part, lut: Option<&str>, chunks: Option<u32>, prefix: Option<&str>) -> Parts {
        Parts {
            part,
            bits: bits(lut).unwrap(),
            chunks,
            prefix: prefix.map(str::to_owned),
            input: PathBuf::new(),
            recursive: false,
        }
    }

    /// Stems of the packages that are found among `names`, or the error's message.
    fn found(parts: Parts, names: &[&str]) -> std::result::Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::create_dir_all(folder.path().join(format!("{name}.mlpackage"))).unwrap();
        }
        let parts = Parts { input: folder.path().to_owned(), ..parts };
        let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
        match parts.packages() {
            Ok(packages) => Ok(packages.into_iter().map(stem).collect()),
            Err(error) => Err(error.message),
        }
    }

    #[test]
    fn names_of_anemll() {
        let names = [
            "llama_embeddings",
            "llama_lm_head_lut6",
            "llama_FFN_PF_lut4_chunk_01of02",
            "llama_FFN_PF_lut4_chunk_02of02",
            "llama_FFN_lut4_chunk_01of02",
            "llama_monolithic_full_lut4",
            "qwen_embeddings",
        ];
        let one = |part, lut, chunks| found(parts(part, lut, chunks, None), &names);
        assert_eq!(one(Part::Embeddings, Some("4"), None).unwrap(), ["llama_embeddings"]);
        assert_eq!(one(Part::Head, Some("6,4"), None).unwrap(), ["llama_lm_head_lut6"]);
        let chunks = ["llama_FFN_PF_lut4_chunk_01of02", "llama_FFN_PF_lut4_chunk_02of02"];
        assert_eq!(one(Part::Layers, Some("4"), Some(2)).unwrap(), chunks);
        assert_eq!(one(Part::Layers, Some("4"), None).unwrap(), chunks);
        assert_eq!(one(Part::Monolithic, Some("4"), None).unwrap(), ["llama_monolithic_full_lut4"]);
        assert_eq!(one(Part::All, None, None).unwrap().len(), names.len());
        let qwen = parts(Part::Embeddings, None, None, Some("qwen"));
        assert_eq!(found(qwen, &names).unwrap(), ["qwen_embeddings"]);
    }

    #[test]
    fn parts_that_are_not_combined() {
        let names = ["qwen_FFN_chunk_01of01", "qwen_prefill_chunk_01of01"];
        assert_eq!(found(parts(Part::Layers, None, None, None), &names).unwrap(), names);
        let names = ["a_monolithic", "a_monolithic_prefill", "a_monolithic_combined"];
        assert_eq!(
            found(parts(Part::Monolithic, None, None, None), &names).unwrap(),
            ["a_monolithic_combined"]
        );
        assert_eq!(
            found(parts(Part::Monolithic, None, None, None), &names[..2]).unwrap(),
            &names[..2]
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let names = ["llama_FFN_PF_chunk_01of02", "llama_FFN_PF_chunk_01of03"];
        let of = |chunks| found(parts(Part::Layers, None, chunks, None), &names).unwrap_err();
        assert_eq!(
            of(Some(2)),
            "missing: llama_FFN_PF_chunk_02of02.mlpackage, or llama_FFN_chunk_01of02.mlpackage and \
             llama_FFN_chunk_02of02.mlpackage and llama_prefill_chunk_01of02.mlpackage and \
             llama_prefill_chunk_02of02.mlpackage"
        );
        assert!(of(None).contains("[2, 3] chunks"));
        let head = found(parts(Part::Head, Some("6"), None, None), &[]).unwrap_err();
        assert_eq!(head, "missing: llama_lm_head_lut6.mlpackage");
        let two = ["a_lm_head", "b_lm_head"];
        let head = found(parts(Part::Head, None, None, None), &two).unwrap_err();
        assert!(head.contains("a, b"), "{head}");
        assert!(
            found(parts(Part::All, None, None, None), &[]).unwrap_err().contains("*.mlpackage")
        );
    }

    #[test]
    fn bits_of_names() {
        assert_eq!(bits(Some("none")).unwrap(), None);
        assert_eq!(bits(Some(" 4,tensor")).unwrap(), Some(4));
        for wrong in ["0", "9", "x", "-4", "4.5"] {
            assert_eq!(bits(Some(wrong)).unwrap_err().code, codes::USAGE);
        }
    }
}
