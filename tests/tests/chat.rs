//! `chat` and `generate` over a conversion of tiny-llama; chat templates against transformers.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests fail by panicking, and say what they skip"
)]

use anemll_chat_template::{ChatTemplate, Message, Sandbox};
use anemll_tests::{anemll, copy_of_converted, model, program, run, succeed, workspace};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A conversion with its tokenizer files, which a test may spoil.
struct Conversion(tempfile::TempDir);

impl Conversion {
    fn new(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut all = vec!["--context", "64", "--batch", "8"];
        all.extend(arguments);
        copy_of_converted(&model("tiny-llama"), folder.path(), &all);
        Self(folder)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = anemll();
        command.arg(name).arg("--meta").arg(self.path("meta.yaml")).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    /// What a command that succeeds writes to standard output.
    fn text(&self, name: &str, arguments: &[&str]) -> String {
        String::from_utf8(succeed(&mut self.command(name, arguments)).stdout).unwrap()
    }

    /// The standard error of a command that fails with `code`, having answered nothing.
    fn refused(&self, name: &str, arguments: &[&str], code: &str) -> String {
        let output = run(&mut self.command(name, arguments));
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(&format!("error[{code}]")), "expected {code}:\n{text}");
        assert_eq!(text.matches("error[").count(), 1, "one error only:\n{text}");
        assert!(!text.contains("panicked"), "{text}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
        text
    }

    /// Sends lines through a pipe.
    fn pipe(&self, arguments: &[&str], lines: &str) -> Output {
        let mut command = self.command("chat", arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    fn edit(&self, file: &str, edit: impl FnOnce(&mut serde_json::Map<String, Value>)) {
        let path = self.path(file);
        let mut value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        edit(value.as_object_mut().unwrap());
        std::fs::write(path, value.to_string()).unwrap();
    }

    fn set_template(&self, template: impl Into<Value>) {
        let template = template.into();
        self.edit("tokenizer_config.json", |config| {
            config.insert("chat_template".to_owned(), template);
        });
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn greedy_chat_without_a_template_is_what_generate_gives() {
    let conversion = Conversion::new(&[]);
    let prompt = "The king said to the";
    let arguments = ["--prompt", prompt, "--max-tokens", "20"];
    let generated = conversion.text("generate", &arguments);
    let answer = conversion.text(
        "chat",
        &["--prompt", prompt, "--max-tokens", "20", "--no-template", "--temperature", "0"],
    );
    assert!(answer.trim().len() > 5, "{answer:?}");
    assert_eq!(generated, format!("{prompt}{answer}"));
    // A template changes the prompt, and with it the answer.
    assert_ne!(conversion.text("chat", &arguments), answer);
}

#[test]
fn a_pipe_has_a_turn_for_each_line_and_remembers_them() {
    let conversion = Conversion::new(&[]);
    let options = ["--no-template", "--max-tokens", "6"];
    let output = conversion.pipe(&options, "The king said\n\nand the queen\n");
    let notes = stderr(&output);
    assert!(output.status.success(), "{notes}");
    let text = String::from_utf8(output.stdout).unwrap();
    // What the second turn continues is everything so far.
    let first = conversion.text("chat", &[&options[..], &["--prompt", "The king said"]].concat());
    let second = text.strip_prefix(&first).unwrap();
    let whole = format!("The king said{}\nand the queen", first.strip_suffix('\n').unwrap());
    let again = conversion.text("generate", &["--prompt", &whole, "--max-tokens", "6"]);
    assert_eq!(again, format!("{whole}{second}"));
    // Only what is new is run: the last token of the first answer, and the second line.
    let prompts: Vec<usize> = notes
        .lines()
        .filter_map(|line| line.split_once("prompt of ")?.1.split(' ').next()?.parse().ok())
        .collect();
    assert_eq!(prompts.len(), 2, "{notes}");
    assert!(prompts[1] < 12, "{notes}");
    assert_eq!(notes.matches("per second").count(), 2, "{notes}");
}

#[test]
fn old_turns_are_left_out_when_the_context_is_full() {
    let conversion = Conversion::new(&[]);
    let lines = "The king said to the queen that he was\n".repeat(5);
    let output = conversion.pipe(&["--no-template", "--max-tokens", "8"], &lines);
    let notes = stderr(&output);
    assert!(output.status.success(), "{notes}");
    assert!(notes.contains("context of 64 tokens is full; the oldest 1 turn left out"), "{notes}");
    assert_eq!(notes.matches("per second").count(), 5, "{notes}");
}

#[test]
fn a_seed_gives_the_same_answer_again() {
    let conversion = Conversion::new(&[]);
    let answer = |command: &str, seed: &str| {
        let options = ["--prompt", "The", "--max-tokens", "20", "--temperature", "1.5"];
        conversion.text(command, &[&options[..], &["--top-k", "200", "--seed", seed]].concat())
    };
    for command in ["chat", "generate"] {
        assert_eq!(answer(command, "1"), answer(command, "1"));
        assert_ne!(answer(command, "1"), answer(command, "2"));
    }
}

#[test]
fn the_model_may_suggest_how_to_sample() {
    let conversion = Conversion::new(&[]);
    let options = ["--prompt", "The", "--max-tokens", "20", "--seed", "3"];
    let greedy = conversion.text("chat", &options);
    conversion.edit("generation_config.json", |config| {
        config.insert("do_sample".to_owned(), true.into());
        config.insert("temperature".to_owned(), 2.0.into());
    });
    assert_ne!(conversion.text("chat", &options), greedy);
    let cold = [&options[..], &["--temperature", "0"]].concat();
    assert_eq!(conversion.text("chat", &cold), greedy);
}

#[test]
fn the_system_message_reaches_the_template() {
    let conversion = Conversion::new(&[]);
    conversion.set_template(
        "{{ bos_token }}{% for m in messages %}{{ m.role ~ ' ' ~ m.content ~ '\n' }}{% endfor %}",
    );
    let options = ["--prompt", "b", "--max-tokens", "20"];
    let answer = conversion.text("chat", &[&options[..], &["--system", "a"]].concat());
    let plain = ["--no-template", "--prompt", "system a\nuser b\n", "--max-tokens", "20"];
    // The template wrote the first token, so the tokenizer must not put another before it.
    assert_eq!(answer, conversion.text("chat", &plain));
    assert_ne!(answer, conversion.text("chat", &options));
}

#[test]
fn templates_are_found_where_models_keep_them() {
    let conversion = Conversion::new(&[]);
    let options = ["--prompt", "The king", "--max-tokens", "4", "--temperature", "0"];
    let plain = conversion.text("chat", &[&options[..], &["--no-template"]].concat());
    let template = "{{ bos_token }}{{ messages[0].content }}";
    conversion.set_template(serde_json::json!([
        { "name": "tool_use", "template": "{% broken" },
        { "name": "default", "template": template },
    ]));
    assert_eq!(conversion.text("chat", &options), plain);
    conversion.set_template("{% broken");
    std::fs::write(conversion.path("chat_template.jinja"), template).unwrap();
    assert_eq!(conversion.text("chat", &options), plain);
    std::fs::remove_file(conversion.path("chat_template.jinja")).unwrap();
    conversion.set_template(Value::Null);
    let output = succeed(&mut conversion.command("chat", &options));
    assert_eq!(String::from_utf8_lossy(&output.stdout), plain);
    assert!(stderr(&output).contains("no chat template"), "{}", stderr(&output));
}

#[test]
fn bad_templates_are_one_error() {
    let conversion = Conversion::new(&[]);
    let prompt = ["--prompt", "Hi"];
    conversion
        .set_template("{{ bos_token }}\n{% for m in messages %}\n{{ m.content }\n{% endfor %}");
    let text = conversion.refused("chat", &prompt, "A0910");
    assert!(text.contains("line 3") && text.contains("tokenizer_config.json"), "{text}");
    conversion.set_template(
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
    );
    let text = conversion.refused("chat", &prompt, "A0911");
    assert!(text.contains("does not come to an end"), "{text}");
    conversion.set_template("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
    conversion.refused("chat", &prompt, "A0910");
    conversion.set_template("{{ raise_exception('not with me') }}");
    assert!(conversion.refused("chat", &prompt, "A0903").contains("not with me"));
    conversion.set_template("{{ messages[0].content.no_such_method() }}");
    conversion.refused("chat", &prompt, "A0910");
    conversion.set_template("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}");
    conversion.refused("chat", &prompt, "A0911");
    conversion.set_template("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n");
    assert!(conversion.refused("chat", &prompt, "A0910").contains("Git LFS"));
    conversion.set_template(7);
    conversion.refused("chat", &prompt, "A0910");
    conversion.set_template(serde_json::json!([{ "name": "other", "template": "x" }]));
    assert!(conversion.refused("chat", &prompt, "A0910").contains("`default`"));
}

#[test]
fn prompts_that_cannot_be_run_say_why() {
    let conversion = Conversion::new(&[]);
    let long = "word ".repeat(100);
    for command in ["chat", "generate"] {
        let text = conversion.refused(command, &["--prompt", &long], "A0903");
        assert!(text.contains("more than fit into the context of 64"), "{text}");
    }
    let text = conversion.refused("chat", &["--no-template", "--prompt", &long], "A0903");
    let numbers: Vec<usize> = text
        .split(|character: char| !character.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect();
    // error[A0903]: the prompt has 201 tokens, 138 more than fit into the context of 64 …
    assert_eq!(numbers[1] + 1 - 64, numbers[2], "{text}");
}

/// Puts a token into the vocabulary whose id the model has no logits for.
fn add_token_beyond(conversion: &Conversion) {
    conversion.edit("tokenizer.json", |tokenizer| {
        let token = serde_json::json!({
            "id": 1030, "content": "<|new|>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true
        });
        let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        vocabulary.insert("<|new|>".to_owned(), 1030.into());
        tokenizer["added_tokens"].as_array_mut().unwrap().push(token);
    });
}

#[test]
fn only_tokens_that_occur_count_against_the_vocabulary() {
    let conversion = Conversion::new(&[]);
    let prompt = ["--prompt", "Hi", "--max-tokens", "4"];
    let before = ["chat", "generate"].map(|command| conversion.text(command, &prompt));
    add_token_beyond(&conversion);
    assert_eq!(["chat", "generate"].map(|command| conversion.text(command, &prompt)), before);
    for command in ["chat", "generate"] {
        let text = conversion.refused(command, &["--prompt", "Hi <|new|>"], "A0902");
        assert!(
            text.contains("1030") && text.contains("1024") && text.contains("<|new|>"),
            "{text}"
        );
    }
}

#[test]
fn a_pad_token_that_only_the_config_adds_does_no_harm() {
    let conversion = Conversion::new(&[]);
    let prompt = ["--prompt", "Hi", "--max-tokens", "4"];
    let before = conversion.text("chat", &prompt);
    conversion.edit("tokenizer_config.json", |config| {
        config.insert("pad_token".to_owned(), "[PAD]".into());
    });
    assert_eq!(conversion.text("chat", &prompt), before);
}

#[test]
fn the_directory_stands_for_meta_yaml() {
    let conversion = Conversion::new(&[]);
    let options = ["--prompt", "The king", "--max-tokens", "4"];
    for command in ["chat", "generate"] {
        let expected = conversion.text(command, &options);
        for path in [conversion.0.path().to_owned(), conversion.path("meta.yaml")] {
            for flag in [&["--meta"][..], &[]] {
                let mut line = anemll();
                line.arg(command).args(flag).arg(&path).args(options).stdin(Stdio::null());
                assert_eq!(String::from_utf8_lossy(&succeed(&mut line).stdout), expected);
            }
        }
        let output = run(anemll().arg(command).args(options));
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    }
}

#[test]
fn a_repetition_penalty_is_that_of_transformers() {
    for name in ["tiny-llama", "tiny-qwen3"] {
        let folder = tempfile::tempdir().unwrap();
        copy_of_converted(&model(name), folder.path(), &["--context", "64", "--batch", "8"]);
        let conversion = Conversion(folder);
        let path = workspace().join("tests/reference/generation").join(format!("{name}.json"));
        let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let (prompt, tokens) = (golden["prompt"].as_str().unwrap(), golden["tokens"].to_string());
        let options = ["--prompt", prompt, "--max-tokens", &tokens];
        for case in golden["cases"].as_array().unwrap() {
            let settings = case["settings"].as_object().unwrap();
            conversion.edit("generation_config.json", |config| {
                config.remove("repetition_penalty");
                config.remove("no_repeat_ngram_size");
                config.extend(settings.clone());
            });
            let expected = case["text"].as_str().unwrap();
            assert_eq!(
                conversion.text("generate", &options),
                format!("{expected}\n"),
                "{settings:?}"
            );
            let chat = [&options[..], &["--no-template", "--temperature", "0"]].concat();
            assert_eq!(
                format!("{prompt}{}", conversion.text("chat", &chat)),
                format!("{expected}\n")
            );
            if let Some(penalty) = settings.get("repetition_penalty") {
                // The option goes before the model's suggestion.
                conversion.edit("generation_config.json", |config| {
                    config.insert("repetition_penalty".to_owned(), 5.0.into());
                });
                let penalty = penalty.to_string();
                let option = [&options[..], &["--repetition-penalty", &penalty]].concat();
                assert_eq!(conversion.text("generate", &option), format!("{expected}\n"));
            }
        }
    }
}

#[test]
fn suggestions_that_do_not_count_are_named() {
    let conversion = Conversion::new(&[]);
    let options = ["--prompt", "The king", "--max-tokens", "2"];
    let notes =
        |conversion: &Conversion| stderr(&succeed(&mut conversion.command("chat", &options)));
    assert!(!notes(&conversion).contains("no effect"), "{}", notes(&conversion));
    conversion.edit("generation_config.json", |config| {
        config.insert("num_beams".to_owned(), 4.into());
        config.insert("typical_p".to_owned(), 1.0.into());
        config.insert("suppress_tokens".to_owned(), serde_json::json!([7]));
    });
    let text = notes(&conversion);
    assert!(text.contains("about `num_beams`, `suppress_tokens` has no effect"), "{text}");
}

#[test]
fn penalties_of_presence_and_frequency_change_what_is_repeated() {
    let conversion = Conversion::new(&[]);
    let options = ["--prompt", "The king said", "--max-tokens", "40"];
    let plain = conversion.text("generate", &options);
    for option in ["--presence-penalty", "--frequency-penalty"] {
        let with = |value: &str| {
            let all = [&options[..], &[option, value]].concat();
            conversion.text("generate", &all)
        };
        assert_eq!(with("0"), plain);
        assert_ne!(with("2"), plain, "{option}");
        assert_ne!(with("-2"), plain, "{option}");
    }
}

#[test]
fn an_answer_ends_before_a_text_that_is_to_stop_it() {
    let conversion = Conversion::new(&[]);
    let options = ["--prompt", "The king said", "--max-tokens", "20"];
    let prompt = "The king said";
    let whole = conversion.text("generate", &options);
    let answer = whole.strip_prefix(prompt).unwrap().trim_end();
    // In the middle of a word or not: some characters that the answer has.
    let characters: Vec<char> = answer.chars().collect();
    let middle = characters.len() / 2;
    let stop: String = characters[middle..middle + 5].iter().collect();
    let before = &answer[..answer.find(&stop).unwrap()];
    let stopped = [&options[..], &["--stop", "never in here", "--stop", &stop]].concat();
    assert_eq!(conversion.text("generate", &stopped), format!("{prompt}{before}\n"));
    let chat = [&stopped[..], &["--no-template", "--temperature", "0"]].concat();
    assert_eq!(conversion.text("chat", &chat), format!("{before}\n"));
    let json = [&stopped[..], &["--json"]].concat();
    let document: Value = serde_json::from_str(&conversion.text("generate", &json)).unwrap();
    assert_eq!(document["text"], before);
    assert_eq!(document["end"], "stop");
    assert!(document["tokens"].as_u64().unwrap() < 20);
    // The model may ask for it, too.
    conversion.edit("generation_config.json", |config| {
        config.insert("stop_strings".to_owned(), serde_json::json!([stop]));
    });
    assert_eq!(conversion.text("generate", &options), format!("{prompt}{before}\n"));
}

#[test]
fn a_prompt_may_be_in_a_file_or_all_of_standard_input() {
    let conversion = Conversion::new(&[]);
    let prompt = "The king said\n\nand the";
    let options = ["--max-tokens", "6"];
    let file = conversion.path("prompt.txt");
    std::fs::write(&file, format!("{prompt}\n")).unwrap();
    let file = file.to_str().unwrap();
    for command in ["generate", "chat"] {
        let named = [&options[..], &["--prompt", prompt]].concat();
        let expected = conversion.text(command, &named);
        let from_file = [&options[..], &["--prompt-file", file]].concat();
        assert_eq!(conversion.text(command, &from_file), expected);
    }
    let expected = conversion.text("chat", &[&options[..], &["--prompt", prompt]].concat());
    let piped = conversion.pipe(&[&options[..], &["--prompt-file", "-"]].concat(), prompt);
    assert_eq!(String::from_utf8(piped.stdout).unwrap(), expected);
    conversion.refused("generate", &["--prompt-file", "/nowhere/at/all"], "A0903");
    let output = run(&mut conversion.command("generate", &options));
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

#[test]
fn generate_says_how_fast_it_was() {
    let conversion = Conversion::new(&[]);
    let options = ["--prompt", "The king", "--max-tokens", "4"];
    let said = stderr(&succeed(&mut conversion.command("generate", &options)));
    assert!(said.contains("[4 tokens, ") && said.contains(" per second; prompt of "), "{said}");
    let quiet = [&options[..], &["--quiet"]].concat();
    assert_eq!(stderr(&succeed(&mut conversion.command("generate", &quiet))), "");
}

#[test]
fn bos_and_eos_come_from_the_class_and_the_map() {
    let conversion = Conversion::new(&[]);
    let options = ["--prompt", "The king said", "--max-tokens", "8"];
    let expected = conversion.text("generate", &options);
    // A post-processor that adds nothing, and a class that adds BOS all the same.
    conversion.edit("tokenizer.json", |tokenizer| {
        tokenizer.insert("post_processor".to_owned(), Value::Null);
    });
    let without = conversion.text("generate", &options);
    assert_ne!(without, expected, "the test needs a prompt for which the first token matters");
    conversion.edit("tokenizer_config.json", |config| {
        config.insert("tokenizer_class".to_owned(), "LlamaTokenizerFast".into());
    });
    assert_eq!(conversion.text("generate", &options), expected);
    conversion.edit("tokenizer_config.json", |config| {
        config.insert("add_bos_token".to_owned(), false.into());
    });
    assert_eq!(conversion.text("generate", &options), without);
    // The template's token from special_tokens_map.json.
    conversion.set_template("{{ bos_token }}{{ messages[0].content }}");
    conversion.edit("tokenizer_config.json", |config| {
        for key in ["bos_token", "eos_token", "added_tokens_decoder"] {
            config.remove(key);
        }
    });
    assert!(conversion.path("special_tokens_map.json").exists());
    let chat = [&options[..], &["--temperature", "0"]].concat();
    assert_eq!(format!("The king said{}", conversion.text("chat", &chat)), expected);
}

#[test]
fn texts_far_too_long_are_refused_by_their_beginning() {
    let conversion = Conversion::new(&[]);
    // One word of 8 MB.
    let line = format!("{}\n", "the".repeat(2_700_000));
    for options in [&["--no-template"][..], &[]] {
        let output = conversion.pipe(options, &line);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("error[A0903]") && text.contains("8100000 bytes"), "{text}");
        assert!(text.contains("bytes of this text fit"), "{text}");
    }
}

#[test]
fn damaged_tokenizers_are_one_error() {
    let conversion = Conversion::new(&[]);
    let options = ["--prompt", "Hi", "--max-tokens", "2"];
    let whole = std::fs::read_to_string(conversion.path("tokenizer.json")).unwrap();
    let refused = |contents: &str, text: &str| {
        std::fs::write(conversion.path("tokenizer.json"), contents).unwrap();
        let found = conversion.refused("chat", &options, "A0902");
        assert!(found.contains(text), "{found}");
    };
    refused("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "Git LFS");
    refused("", "cannot be read");
    refused("7", "cannot be read");
    refused(&whole[..whole.len() / 2], "cannot be read");
    // The library panics where a decoder is a number.
    let mut value: Value = serde_json::from_str(&whole).unwrap();
    value["decoder"] = 7.into();
    std::fs::write(conversion.path("tokenizer.json"), value.to_string()).unwrap();
    let output = run(&mut conversion.command("chat", &options));
    assert_eq!(output.status.code(), Some(1));
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
}

#[test]
fn a_conversion_that_gives_only_the_winner_is_greedy() {
    let conversion = Conversion::new(&["--argmax"]);
    let options = ["--prompt", "The king said", "--max-tokens", "8"];
    let answer = conversion.text("generate", &options);
    assert_eq!(Conversion::new(&[]).text("generate", &options), answer);
    for option in [
        ["--temperature", "0.5"],
        ["--top-k", "5"],
        ["--top-p", "0.5"],
        ["--repetition-penalty", "1.1"],
        ["--presence-penalty", "0.5"],
        ["--frequency-penalty", "-0.5"],
    ] {
        for command in ["chat", "generate"] {
            let text = conversion.refused(command, &[&options[..], &option].concat(), "A0801");
            assert!(text.contains("without --argmax"), "{text}");
        }
    }
    // What the model suggests is no demand.
    conversion.edit("generation_config.json", |config| {
        config.insert("do_sample".to_owned(), true.into());
    });
    conversion.text("chat", &options);
}

#[test]
fn every_option_of_chat_is_in_the_guide() {
    use clap::CommandFactory as _;
    let guide = std::fs::read_to_string(workspace().join("docs/guide/chat.md")).unwrap();
    let command = anemll_host::cli::Cli::command();
    for argument in command.find_subcommand("chat").unwrap().get_arguments() {
        let Some(name) = argument.get_long() else { continue };
        assert!(guide.contains(&format!("`--{name}`")), "docs/guide/chat.md lacks --{name}");
    }
}

#[test]
fn sampling_options_have_ranges() {
    for (option, value, wanted) in [
        ("--temperature", "-1", "a number, 0 or greater"),
        ("--temperature", "nan", "a number, 0 or greater"),
        ("--temperature", "inf", "a number, 0 or greater"),
        ("--top-p", "1.1", "a number from 0 to 1"),
        ("--min-p", "-0.1", "a number from 0 to 1"),
        ("--repetition-penalty", "-2", "a number above 0"),
        ("--repetition-penalty", "0", "a number above 0"),
        ("--presence-penalty", "2.1", "a number from -2 to 2"),
        ("--frequency-penalty", "nan", "a number from -2 to 2"),
        ("--top-k", "-1", "a whole number, 0 or greater"),
        ("--max-tokens", "-1", "a whole number, 0 or greater"),
        ("--seed", "x", "a whole number, 0 or greater"),
    ] {
        for command in ["chat", "generate"] {
            let output = run(anemll().args([command, "--meta", "x", option, value]));
            let text = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{option}: {text}");
            let expected = format!("invalid value '{value}' for '{option}");
            assert!(text.contains(&expected) && text.contains(wanted), "{option}: {text}");
        }
    }
}

#[test]
fn templates_render_as_in_transformers() {
    let folder = workspace().join("tests/reference/chat");
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "jinja") {
            continue;
        }
        let golden: Value =
            serde_json::from_slice(&std::fs::read(path.with_extension("json")).unwrap()).unwrap();
        let tokens: BTreeMap<String, String> =
            serde_json::from_value(golden["tokens"].clone()).unwrap();
        let source = std::fs::read_to_string(&path).unwrap();
        let (at, sandbox) = (Path::new("template"), Sandbox::in_program(program()));
        let template = ChatTemplate::with_sandbox(&source, tokens, at, sandbox).unwrap();
        for case in golden["cases"].as_array().unwrap() {
            let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
            let variables: BTreeMap<&str, bool> = case["variables"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_bool().unwrap()))
                .collect();
            let place = format!("{} in {}", case["name"], path.display());
            match (template.render(&messages, &variables), case["text"].as_str()) {
                (Ok(text), Some(expected)) => assert_eq!(text, expected, "{place}"),
                (Err(error), None) => {
                    let refusal = case["refused"].as_str().unwrap();
                    assert!(error.message.ends_with(refusal), "{place}: {error}");
                }
                (result, expected) => panic!("{place}: {result:?}, not {expected:?}"),
            }
            count += 1;
        }
    }
    assert!(count >= 30, "{count} cases only");
}

/// Ctrl-C in a pipe ends the program, while it waits and while it answers.
#[cfg(unix)]
#[test]
fn an_interrupt_in_a_pipe_ends_the_program() {
    let conversion = Conversion::new(&[]);
    let mut command = conversion.command("chat", &[]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"Hello\n").unwrap();
    // The answer's first byte shows that the handler is there.
    let mut byte = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
    let status = Command::new("kill").arg("-INT").arg(child.id().to_string()).status().unwrap();
    assert!(status.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    drop(input);
}

/// A terminal that is closed while `chat` waits for a message: prints how the process has ended.
#[cfg(unix)]
const CLOSED_TERMINAL: &str = r#"
import os, pty, sys, time
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[1], sys.argv[1:])
seen = b""
# The mark of a message, which is the last thing that is written before it waits.
while b"> " not in seen:
    seen += os.read(terminal, 4096)
    if b"\x1b[6n" in seen:
        os.write(terminal, b"\x1b[1;1R")
        seen = seen.replace(b"\x1b[6n", b"")
os.close(terminal)
for _ in range(300):
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        print("ended", os.waitstatus_to_exitcode(status))
        break
    time.sleep(0.1)
else:
    os.kill(child, 9)
    print("runs on")
"#;

#[test]
#[cfg(unix)]
fn a_chat_ends_with_its_terminal() {
    let conversion = Conversion::new(&[]);
    let chat = conversion.command("chat", &[]);
    let mut python = Command::new("python3");
    python.arg("-c").arg(CLOSED_TERMINAL).arg(chat.get_program()).args(chat.get_args());
    python.envs(chat.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let Ok(output) = python.env("TERM", "xterm").output() else {
        println!("skipped: no python3");
        return;
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ended 130\n", "{}", stderr(&output));
}
