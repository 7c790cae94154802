//! docs/guide/flags.md: no flag of ANEMLL's is left out, and what it promises exists.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_host::cli;
use anemll_tests::workspace;

/// Flags of ANEMLL 0.3.5's scripts, a heading of the document each.
const ANEMLL: [(&str, &str); 10] = [
    (
        "convert_model.sh",
        "--model --output --context --batch --lut1 --lut2 --lut3 --no-lut --chunk --max-chunk-mb \
         --chunk-no --prefix --restart --only --skip-check --force-mlprogram-compile \
         --allow-missing-weights --argmax --split-rotate --fp16-scale --clamp \
         --dynamic-prefill-slice --static-prefill-slice --single-cache --skip-anemll-dedup",
    ),
    (
        "convert_monolith.sh",
        "--model --output --context --batch --lut --lut-embeddings --lut-lmhead --prefix --restart \
         --only --skip-check --force-mlprogram-compile --allow-missing-weights --argmax \
         --dynamic-prefill-slice --static-prefill-slice --single-cache --skip-anemll-dedup",
    ),
    (
        "combine_models.py",
        "--lut --chunk --monolithic --gemma3 --rotate --split-rotate --input --output --prefix \
         --anemll-dedup --skip-anemll-dedup --input-dir --output-dir",
    ),
    (
        "compile_models.py",
        "PART --lut --chunk --prefix --input --output --recursive --force-mlprogram --split-rotate",
    ),
    (
        "python -m anemll.ane_converter.X",
        "--part --model --prefix --batch-size --context-length --lut --chunk --output --argmax \
         --dynamic-prefill-slice --static-prefill-slice",
    ),
    ("calc_chunk_split.py", "MODEL --max-chunk-mb --lut --overhead --auto"),
    ("dedup_weights.py", "--anchor --target --dry-run --verbose --diagnostics --strict --output"),
    ("fp16_preflight.sh", "--model"),
    (
        "chat.py and chat_full.py",
        "--meta --d --embed --ffn --pf --lmhead --tokenizer --prompt --save --max-tokens --nw \
         --no-template --no-think --eval --cpu --mem-report --context-length --batch-size \
         --split-lm-head --debug --debug-argmax --st",
    ),
    ("prepare_hf.sh", "--input --output --org --name --ios --zip"),
];

/// The rows of a section: flag, kind, what it is here, the difference.
fn rows(document: &str, heading: &str) -> Vec<[String; 4]> {
    let start = document.find(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("{heading}"));
    let section = &document[start + 4..];
    let section = &section[..section.find("\n## ").unwrap_or(section.len())];
    let cells = |line: &str| -> [String; 4] {
        let cells: Vec<String> =
            line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        cells.try_into().unwrap_or_else(|cells| panic!("{line}: {cells:?}"))
    };
    section.lines().filter(|line| line.starts_with("| `")).map(cells).collect()
}

/// Whether a command, such as `convert --chunk`, can be typed.
fn exists(typed: &str) -> bool {
    let mut root = cli::command();
    root.build();
    let mut command = &root;
    for word in typed.split(' ') {
        if let Some(flag) = word.strip_prefix("--") {
            let has = |argument: &clap::Arg| {
                argument.get_long() == Some(flag)
                    || argument.get_all_aliases().is_some_and(|names| names.contains(&flag))
            };
            return command.get_arguments().any(has);
        }
        match command.find_subcommand(word) {
            Some(next) => command = next,
            None => return false,
        }
    }
    true
}

#[test]
fn no_flag_of_anemll_is_left_out() {
    let document = std::fs::read_to_string(workspace().join("docs/guide/flags.md")).unwrap();
    for (script, flags) in ANEMLL {
        let rows = rows(&document, script);
        for flag in flags.split_whitespace() {
            let quoted = format!("`{flag}`");
            let count = rows.iter().filter(|row| row[0] == quoted).count();
            assert_eq!(count, 1, "{script}: {flag}");
        }
    }
}

#[test]
fn what_the_document_promises_exists() {
    let document = std::fs::read_to_string(workspace().join("docs/guide/flags.md")).unwrap();
    for (script, _) in ANEMLL {
        for [flag, kind, here, difference] in rows(&document, script) {
            let here = here.trim_matches('`');
            match kind.as_str() {
                "same" | "renamed" => {
                    assert!(!here.is_empty(), "{script}: {flag} is nothing here");
                    assert!(exists(here), "{script}: {flag}: there is no `{here}`");
                    let name = flag.trim_matches('`');
                    let same = name.starts_with("--") && here.ends_with(&format!(" {name}"));
                    assert_eq!(kind == "same", same || name == "PART", "{script}: {flag}");
                }
                "by itself" => {}
                "not here" => {
                    let known = script != "convert_model.sh" && script != "combine_models.py";
                    assert!(!difference.is_empty() || known, "{script}: {flag}: why?");
                }
                other => panic!("{script}: {flag}: `{other}` is not a kind"),
            }
        }
    }
}
