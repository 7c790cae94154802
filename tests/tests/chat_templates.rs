//! Chat templates that were made to do harm, rendered in a process of the program: each gives an
//! error with a code, soon, whatever it does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_chat_template::{ChatTemplate, Message, Sandbox, check};
use anemll_plugin_api::Error;
use anemll_tests::{program, run};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Processor time for templates that never end.
const SHORT: Duration = Duration::from_millis(100);

/// By the clock, on a machine that is busy with other things.
const WATCHDOG: Duration = Duration::from_secs(20);

fn render(source: &str, sandbox: Sandbox) -> Result<String, Error> {
    let at = Path::new("tokenizer_config.json");
    ChatTemplate::with_sandbox(source, BTreeMap::new(), at, sandbox)?
        .render(&[Message::new("user", "Hello")], &BTreeMap::new())
}

fn sandbox() -> Sandbox {
    Sandbox::in_program(program())
}

/// A value within a value, 90,000 times, as `ns.a`.
fn deep(open: &str, close: &str) -> String {
    format!(
        "{{% set ns = namespace(a=1) %}}{{% for i in range(90000) %}}\
         {{% set ns.a = {open}ns.a{close} %}}{{% endfor %}}"
    )
}

/// `a` and `b`, two equal lists apart from each other, whose lists of two hold 2 to the power of 60
/// numbers.
fn pairs() -> String {
    "{% set ns = namespace(a=1, b=1) %}{% for i in range(60) %}\
     {% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}{% endfor %}\
     {% set a = ns.a %}{% set b = ns.b %}"
        .to_owned()
}

/// As [`pairs`], of tuples.
fn tuples() -> String {
    pairs().replace("[ns.a, ns.a]", "(ns.a, ns.a)").replace("[ns.b, ns.b]", "(ns.b, ns.b)")
}

/// As [`pairs`], of dictionaries.
fn maps() -> String {
    pairs()
        .replace("[ns.a, ns.a]", "{'x': ns.a, 'y': ns.a}")
        .replace("[ns.b, ns.b]", "{'x': ns.b, 'y': ns.b}")
}

/// Work that is done 60 times on `ns.s`, which begins as a text of ten characters.
fn sixty_times(work: &str) -> String {
    format!(
        "{{% set ns = namespace(s='x' * 10, l=[1] * 10) %}}{{% for i in range(60) %}}{work}{{% endfor %}}\
         {{{{ ns.s|length + ns.l|length }}}}"
    )
}

fn hostile() -> Vec<String> {
    let cycle = "{% set ns = namespace() %}{% set ns.a = ns %}";
    let cycles =
        "{% set a = namespace() %}{% set a.x = a %}{% set b = namespace() %}{% set b.x = b %}";
    let mut list: Vec<String> = Vec::new();
    // A value that holds itself.
    for print in [
        "{{ ns }}",
        "{{ ns|tojson }}",
        "{{ ns ~ '' }}",
        "{{ '%s' % ns }}",
        "{{ [ns] }}",
        "{{ ns|string }}",
        "{{ ns|pprint }}",
        "{{ [ns]|join }}",
        "{{ ns|tojson(indent=2) }}",
        "{{ '{}'.format(ns) }}",
        "{{ ns|upper }}",
    ] {
        list.push(format!("{cycle}{print}"));
    }
    for compare in ["{{ a == b }}", "{{ [a] == [b] }}", "{{ a in [b] }}", "{{ [a].index(b) }}"] {
        list.push(format!("{cycles}{compare}"));
    }
    // Values within values.
    for (open, close) in [("[", "]"), ("{'x': ", "}"), ("(", ",)")] {
        for print in ["{{ ns.a }}", "{{ ns.a|tojson }}", "{{ ns.a ~ '' }}", "{{ [ns.a]|join }}"] {
            list.push(format!("{}{print}", deep(open, close)));
        }
    }
    // Values that double.
    for values in [pairs(), maps(), tuples()] {
        for print in ["{{ a }}", "{{ a|tojson }}", "{{ a ~ '' }}", "{{ '%s' % (a,) }}"] {
            list.push(format!("{values}{print}"));
        }
    }
    for work in [
        "{{ a == b }}",
        "{{ a != b }}",
        "{{ a < b }}",
        "{{ [a, b]|sort }}",
        "{{ a in [b] }}",
        "{{ [a, b]|unique|list }}",
        "{{ [b].index(a) }}",
        "{{ [b].count(a) }}",
        "{{ [a, b]|max }}",
        "{{ [a, b]|min }}",
        "{{ {a: 1}[b] }}",
        "{{ [{'k': a}, {'k': b}]|groupby('k') }}",
        "{{ a is eq b }}",
        "{{ [a]|select('equalto', b)|list }}",
        "{{ a is in [b] }}",
    ] {
        list.push(format!("{}{work}", pairs()));
    }
    list.push(format!("{}{{{{ a == b }}}}", maps()));
    // Sources that are nested or chained without end.
    let times = |count: usize, part: &str| part.repeat(count);
    for (count, before, part, after) in [
        (20_000, "{{ ", "-", "1 }}"),
        (20_000, "{{ ", "not ", "1 }}"),
        (20_000, "{{ ", "(", "1"),
        (20_000, "{{ ", "[", "1"),
        (20_000, "{{ ", "{'a': ", "1"),
        (20_000, "{{ ", "range(", "1"),
        (20_000, "{% if x %}", "{% elif x %}", "{% endif %}"),
        (20_000, "", "{% if x %}", ""),
        (20_000, "", "{% for x in [1] %}", ""),
        (20_000, "", "{% macro m() %}", ""),
        (20_000, "", "{% set x %}", ""),
        (20_000, "", "{% filter upper %}", ""),
        (20_000, "", "{% with a = 1 %}", ""),
        (20_000, "", "{% call m() %}", ""),
        (20_000, "", "{% block a %}", ""),
        (200_000, "{{ 1", "+1", " }}"),
        (200_000, "{{ 1", "~1", " }}"),
        (200_000, "{{ 1", "%1", " }}"),
        (100_000, "{{ 1", "|string", " }}"),
        (200_000, "{{ 1", ".a", " }}"),
        (200_000, "{{ 1", "[0]", " }}"),
        (200_000, "{{ x", "()", " }}"),
        (100_000, "{{ 1", " and 1", " }}"),
        (100_000, "{{ 1", " or 0", " }}"),
        (200_000, "{{ 1", "<1", " }}"),
        (100_000, "{{ 1", "**1", " }}"),
        (50_000, "{{ 1", " if x else 1", " }}"),
        (50_000, "{{ 1", " is odd", " }}"),
    ] {
        list.push(format!("{before}{}{after}", times(count, part)));
    }
    // Calls without end.
    for calls in [
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% block b %}{{ self.b() }}{% endblock %}",
        "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}",
    ] {
        list.push(calls.to_owned());
    }
    // Memory that doubles, or is asked for at once.
    for work in [
        "{% set ns.s = ns.s ~ ns.s %}",
        "{% set ns.s = ns.s + ns.s %}",
        "{% set ns.s = ns.s * 2 %}",
        "{% set ns.s = [ns.s, ns.s]|join %}",
        "{% set ns.s = ''.join([ns.s, ns.s]) %}",
        "{% set ns.s = ns.s.replace('x', 'xx') %}",
        "{% set ns.s = ns.s|replace('x', 'xx') %}",
        "{% set ns.s = '%s%s' % (ns.s, ns.s) %}",
        "{% set ns.s = '{}{}'.format(ns.s, ns.s) %}",
        "{% set ns.s = '%s%s'|format(ns.s, ns.s) %}",
        "{% set x %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = x %}",
        "{% set ns.s = [ns.s, ns.s]|tojson %}",
        "{% set ns.s = ns.s.translate({120: 'xx'}) %}",
        "{% set ns.l = (ns.l + ns.l)|list %}",
        "{% set ns.l = ns.l * 2 %}",
        "{% set ns.l = [ns.l, ns.l]|sum(start=[])|list %}",
        "{% set ns.s = ns.s|string ~ ns.l ~ ns.s %}",
    ] {
        list.push(sixty_times(work));
    }
    for work in [
        "'x' * 9999999999",
        "[1] * 9999999999",
        "(1,) * 9999999999",
        "range(9999999999)|list",
        "'a'|indent(9999999999)",
        "'%9999999999s'|format('a')",
        "'%9999999999s' % 'a'",
        "'%*d' % (9999999999, 1)",
        "'{:9999999999}'.format('a')",
        "'a'.ljust(9999999999)",
        "'a'.rjust(9999999999)",
        "'a'.center(9999999999)",
        "'a'.zfill(9999999999)",
        "'a\tb'.expandtabs(9999999999)",
        "'a'|center(9999999999)",
        "[1]|slice(9999999999)|list",
        "[1]|batch(9999999999, 0)|list",
        "10 ** 10 ** 10",
        "[1]|tojson(indent=9999999999)",
    ] {
        list.push(format!("{{{{ {work} }}}}"));
    }
    // Loops without end, in the template and within one step.
    for work in [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
        "{% for a in range(99999) %}{% set x = range(99999)|list|sort|unique|list %}{% endfor %}",
        "{% set x = range(99999)|list %}{% for a in x %}{% if x == x|reverse|list or a.x in x %}{% endif %}{% endfor %}",
        "{% set x = 'ab' * 4000000 %}{% for a in range(99999) %}{% set y = x.count('b') %}{% endfor %}",
        "{% set x = '<' * 9000000 %}{% for a in range(99999) %}{% set y = x|striptags %}{% endfor %}",
        "{% set x = 'a ' * 4000000 %}{% for a in range(99999) %}{% set y = x.split() %}{% endfor %}",
        "{% set x = 'a' * 9000000 %}{% for a in range(99999) %}{% set y = x.title().swapcase().casefold() %}{% endfor %}",
    ] {
        list.push(work.to_owned());
    }
    list
}

#[test]
fn hostile_templates_are_one_error() {
    let hostile = hostile();
    assert!(hostile.len() >= 60);
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(source) = hostile.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = Instant::now();
                    let rendered = render(source, sandbox().with_time(SHORT));
                    let soon = start.elapsed() < WATCHDOG;
                    let told = match &rendered {
                        Err(error) => {
                            ["A0910", "A0911"].contains(&error.code.as_str())
                                && error.hint.is_some()
                                && error.message.len() < 700
                        }
                        Ok(_) => false,
                    };
                    if !soon || !told {
                        let rendered = rendered.map(|text| text.len());
                        let source: String = source.chars().take(300).collect();
                        failures
                            .lock()
                            .unwrap()
                            .push(format!("{source}\n  after {:?}: {rendered:?}", start.elapsed()));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        hostile.len(),
        failures.join("\n")
    );
    #[cfg(target_os = "linux")]
    assert!(largest_child() < 500 << 20, "{} bytes", largest_child());
}

/// The most memory that a process of this test had, in bytes.
#[cfg(target_os = "linux")]
fn largest_child() -> u64 {
    // SAFETY: the struct is plain numbers, for which zero is a value, and the call fills it.
    #[allow(unsafe_code)]
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    u64::try_from(usage.ru_maxrss).unwrap() * 1024
}

/// What only costs time or memory when it is taken apart may be rendered.
#[test]
fn values_that_are_not_looked_at_end_nothing_but_their_process() {
    for (open, close) in [("[", "]"), ("{'x': ", "}")] {
        match render(&format!("{}x", deep(open, close)), sandbox()) {
            Ok(text) => assert_eq!(text, "x"),
            Err(error) => assert_eq!(error.code, "A0911", "{error}"),
        }
    }
}

#[test]
fn the_usual_limits_end_what_has_no_end() {
    let start = Instant::now();
    // Where memory is slow to take, time would be over first.
    let patient = sandbox().with_time(Duration::from_secs(5));
    for (source, sandbox, reason) in [
        (format!("{}{{{{ a == b }}}}", pairs()), sandbox(), "does not come to an end"),
        (sixty_times("{% set ns.s = ns.s + ns.s %}"), patient, "needs too much memory"),
    ] {
        let error = render(&source, sandbox).unwrap_err();
        assert_eq!(error.code, "A0911");
        assert!(error.message.contains(reason), "{error}");
    }
    assert!(start.elapsed() < WATCHDOG, "{:?}", start.elapsed());
}

#[test]
fn a_process_serves_many_conversations_and_is_started_anew_after_its_end() {
    let source = format!(
        "{{% if messages[0].content == 'bad' %}}{}{{{{ a == b }}}}{{% endif %}}{{{{ messages[0].content }}}}",
        pairs()
    );
    let at = Path::new("chat_template.jinja");
    let sandbox = sandbox().with_time(SHORT);
    let template = ChatTemplate::with_sandbox(&source, BTreeMap::new(), at, sandbox).unwrap();
    for text in ["good", "better", "bad", "good", "bad", "bad", "good"] {
        let rendered = template.render(&[Message::new("user", text)], &BTreeMap::new());
        match rendered {
            Ok(rendered) => assert_eq!(rendered, text),
            Err(error) => {
                assert_eq!((error.code.as_str(), text), ("A0911", "bad"), "{error}");
                assert_eq!(error.at.as_deref(), Some("chat_template.jinja"));
            }
        }
    }
}

#[test]
fn a_long_conversation_is_no_attack() {
    let source =
        "{% for m in messages %}{{ '<|' ~ m.role ~ '|>' ~ m.content.strip() }}{% endfor %}";
    let template =
        ChatTemplate::with_sandbox(source, BTreeMap::new(), Path::new("x"), sandbox()).unwrap();
    let messages: Vec<Message> = (0..2000)
        .map(|turn| Message::new("user", format!("{turn} {}", "word ".repeat(800))))
        .collect();
    let text = template.render(&messages, &BTreeMap::new()).unwrap();
    assert!(text.len() > 7_900_000, "{}", text.len());
}

#[test]
fn a_program_that_does_not_render_is_named() {
    let told = |program: &str| render("x", Sandbox::in_program(program)).unwrap_err();
    let error = told("/no/such/program");
    assert_eq!(error.code, "A0912");
    assert!(error.message.contains("/no/such/program"), "{error}");
    #[cfg(unix)]
    for program in ["/bin/echo", "/bin/true", "/bin/false", "/bin/cat"] {
        let error = told(program);
        assert_eq!(error.code, "A0912", "{program}: {error}");
    }
}

#[test]
fn what_is_no_template_is_told_apart() {
    let check = |source: &str| check(source, Path::new("chat_template.jinja"));
    check("{{ messages[0].content }}").unwrap();
    check("{{ raise_exception('only with tools') }}").unwrap();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
    for (source, reason) in [
        (pointer, "Git LFS"),
        ("<!DOCTYPE html>\n<html><body>404</body></html>", "web page"),
        ("\u{fffd}PNG\u{fffd}\0\0", "not text"),
        ("{{ messages }", "does not compile"),
        ("{{ messages[0].nope() }}", "fails"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "fails"),
    ] {
        let error = check(source).unwrap_err();
        assert!(error.message.contains(reason), "{source}: {error}");
        assert!(error.code.starts_with("A091"), "{error:?}");
    }
}

/// The process has no files but its pipes, whatever its parent was given by others.
#[cfg(target_os = "linux")]
#[test]
fn the_process_inherits_no_file() {
    let mut child = Command::new("sh")
        .args([
            "-c",
            "exec 7<\"$0\"; exec 9</dev/null; exec \"$0\" render-chat-template-for-parent-process",
        ])
        .arg(program())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let folder = format!("/proc/{}/fd", child.id());
    let files = || {
        let files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name());
        let mut files: Vec<_> = files.map(|file| file.into_string().unwrap()).collect();
        files.sort();
        files
    };
    let start = Instant::now();
    while files() != ["0", "1", "2"] {
        assert!(start.elapsed() < WATCHDOG, "{:?}", files());
        std::thread::sleep(Duration::from_millis(5));
    }
    // At the end of its input it ends.
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_argument_is_in_no_help() {
    let help = run(Command::new(program()).arg("--help"));
    assert!(!String::from_utf8_lossy(&help.stdout).contains("render-chat"));
}
