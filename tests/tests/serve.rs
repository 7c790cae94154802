//! `serve` over a conversion of tiny-llama: the answers of `chat` and `generate`, by HTTP.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::embedders::with_tokenizer;
use anemll_tests::server::{Server, answer};
use anemll_tests::{anemll, copy_of_converted, model, run, succeed};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

/// A conversion with its tokenizer files.
struct Conversion(tempfile::TempDir);

impl Conversion {
    fn new(context: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["--context", context, "--batch", "8"];
        copy_of_converted(&model("tiny-llama"), folder.path(), &arguments);
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// What a command answers to a prompt.
    fn told(&self, command: &str, arguments: &[&str]) -> String {
        let mut command_line = anemll();
        command_line.arg(command).arg(self.path()).args(arguments);
        String::from_utf8(succeed(&mut command_line).stdout).unwrap()
    }

    /// The program's error where it does not begin to serve.
    fn refused(&self, arguments: &[&str]) -> String {
        let mut command = anemll();
        command.arg("serve").arg(self.path()).args(arguments);
        let output = run(&mut command);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

fn user(text: &str) -> Value {
    json!([{ "role": "user", "content": text }])
}

/// The texts of a stream, put together.
fn streamed(events: &[&str]) -> String {
    let (last, chunks) = events.split_last().unwrap();
    assert_eq!(*last, "[DONE]");
    let text = |chunk: &&str| {
        let chunk: Value = serde_json::from_str(chunk).unwrap();
        let choice = &chunk["choices"][0];
        let text = choice["delta"]["content"].as_str().or(choice["text"].as_str());
        text.unwrap_or_default().to_owned()
    };
    chunks.iter().map(text).collect()
}

#[test]
fn answers_are_those_of_chat_and_generate() {
    let conversion = Conversion::new("64");
    let server = Server::start(conversion.path(), &["--name", "tiny"]);
    let prompt = "The king said to the";
    let asked = conversion.told("chat", &["--prompt", prompt, "--max-tokens", "20"]);
    let mut request = json!({ "model": "tiny", "messages": user(prompt), "max_tokens": 20 });
    let answer = server.post(CHAT, &request);
    assert_eq!(answer.status, 200, "{answer:?}");
    let whole = answer.json();
    let choice = &whole["choices"][0];
    assert_eq!(choice["message"]["content"], asked.trim_end_matches('\n'));
    assert_eq!(choice["message"]["role"], "assistant");
    let usage = &whole["usage"];
    let total =
        usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], total);
    let ended = if usage["completion_tokens"] == 20 { "length" } else { "stop" };
    assert_eq!(choice["finish_reason"], ended);
    // As a stream: the same text, and the same usage if it is asked for.
    request["stream"] = json!(true);
    request["stream_options"] = json!({ "include_usage": true });
    let answer = server.post(CHAT, &request);
    assert!(answer.head.contains("text/event-stream"), "{}", answer.head);
    let events = answer.events();
    assert_eq!(streamed(&events), choice["message"]["content"].as_str().unwrap());
    let first: Value = serde_json::from_str(events[0]).unwrap();
    assert_eq!(first["choices"][0]["delta"]["role"], "assistant");
    let usage_chunk: Value = serde_json::from_str(events[events.len() - 2]).unwrap();
    assert_eq!(usage_chunk["usage"]["total_tokens"], total);
    assert_eq!(usage_chunk["choices"], json!([]));
    let ending: Value = serde_json::from_str(events[events.len() - 3]).unwrap();
    assert_eq!(ending["choices"][0]["finish_reason"], ended);
    // A text is continued as `generate` does it.
    let generated = conversion.told("generate", &["--prompt", prompt, "--max-tokens", "20"]);
    let mut request = json!({ "prompt": prompt, "max_tokens": 20 });
    let text = server.post(TEXT, &request).json()["choices"][0]["text"].clone();
    assert_eq!(format!("{prompt}{}\n", text.as_str().unwrap()), generated);
    request["stream"] = json!(true);
    assert_eq!(streamed(&server.post(TEXT, &request).events()), text.as_str().unwrap());
}

#[test]
fn a_cache_that_is_used_again_changes_nothing() {
    let conversion = Conversion::new("64");
    let ask = |server: &Server, prompt: &str| {
        let request = json!({ "prompt": prompt, "max_tokens": 12, "logprobs": 5 });
        server.post(TEXT, &request).json()
    };
    let prompts = [
        "The king said to the queen that he was going into the wood",
        "The king said to the queen that he was going into the garden and she",
        "The king said to the queen that he was",
        "The king said to the queen that he was going into the wood and the sea",
        "The",
    ];
    let server = Server::start(conversion.path(), &[]);
    let mut reused = 0;
    for prompt in prompts {
        let (warm, fresh) =
            (ask(&server, prompt), ask(&Server::start(conversion.path(), &[]), prompt));
        // To the last digit.
        assert_eq!(warm["choices"], fresh["choices"], "{prompt}");
        reused += warm["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
        assert_eq!(fresh["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    }
    assert!(reused >= 16, "{reused}");
    assert_eq!(server.metric("anemll_prompt_tokens_reused_total"), reused as f64);
}

#[test]
fn sampling_stops_and_probabilities() {
    let conversion = Conversion::new("64");
    let server = Server::start(conversion.path(), &[]);
    let ask = |settings: Value| {
        let mut request = json!({ "prompt": "The king said to the", "max_tokens": 20 });
        request.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let answer = server.post(TEXT, &request);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["choices"][0].clone()
    };
    let greedy = ask(json!({}));
    let text = greedy["text"].as_str().unwrap();
    let drawn = |seed: u64| ask(json!({ "temperature": 1.5, "top_k": 200, "seed": seed }));
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
    assert_eq!(ask(json!({ "temperature": 5.0, "top_k": 1 }))["text"], text);
    // A text that spans tokens ends the answer before it, in one piece or in many.
    let words: Vec<&str> = text.split_whitespace().collect();
    let stop = format!("{} {}", words[0], words[1]);
    let stopped = ask(json!({ "stop": [stop] }));
    assert_eq!(stopped["text"], text.split(&stop).next().unwrap());
    assert_eq!(stopped["finish_reason"], "stop");
    let stream = json!({
        "prompt": "The king said to the", "max_tokens": 20, "stop": stop, "stream": true,
    });
    assert_eq!(streamed(&server.post(TEXT, &stream).events()), stopped["text"].as_str().unwrap());
    // Penalties change what is said once something would be said again.
    let long = |settings: Value| {
        let mut request = json!({ "max_tokens": 50 });
        request.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        ask(request)["text"].clone()
    };
    let plain = long(json!({}));
    for penalty in [
        json!({ "frequency_penalty": 2.0, "presence_penalty": 2.0 }),
        json!({ "frequency_penalty": -2.0 }),
        json!({ "repetition_penalty": 10.0 }),
    ] {
        assert_ne!(long(penalty.clone()), plain, "{penalty}");
    }
    // The chosen token is the likeliest one where nothing is drawn.
    let told = ask(json!({ "logprobs": 2 }))["logprobs"].clone();
    let tokens = told["tokens"].as_array().unwrap();
    let joined: String = tokens.iter().map(|token| token.as_str().unwrap()).collect();
    assert_eq!(joined, text);
    for (index, token) in tokens.iter().enumerate() {
        let value = told["token_logprobs"][index].as_f64().unwrap();
        let top = told["top_logprobs"][index].as_object().unwrap();
        assert_eq!(top[token.as_str().unwrap()].as_f64(), Some(value));
        assert!(value <= 0.0 && top.values().all(|other| other.as_f64().unwrap() <= value));
    }
    let chat = json!({
        "messages": user("The king"), "max_tokens": 5, "logprobs": true, "top_logprobs": 3,
    });
    let told = server.post(CHAT, &chat).json()["choices"][0]["logprobs"]["content"].clone();
    for entry in told.as_array().unwrap() {
        assert_eq!(entry["top_logprobs"].as_array().unwrap().len(), 3);
        assert_eq!(entry["top_logprobs"][0]["logprob"], entry["logprob"]);
    }
}

/// As rerankers are asked: the log-probabilities of the next token, here those of transformers 4.57.1 in float32.
#[test]
fn probabilities_of_the_next_token_are_those_of_transformers() {
    let conversion = Conversion::new("64");
    let server = Server::start(conversion.path(), &[]);
    let prompt = "The king said to the queen that he was";
    let request = json!({ "prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 5 });
    let likely =
        server.post(TEXT, &request).json()["choices"][0]["logprobs"]["top_logprobs"][0].clone();
    let of = |token: &str| likely[token].as_f64().unwrap();
    for (token, expected) in
        [("\n", -1.4264), (" not", -2.9680), (" s", -3.3518), (",", -3.4667), (" very", -3.6311)]
    {
        assert!((of(token) - expected).abs() < 0.01, "{token:?}: {likely}");
    }
    // What one of two answers gets of both: exp(-1.4264) / (exp(-1.4264) + exp(-2.9680)).
    let score = 1.0 / (1.0 + (of(" not") - of("\n")).exp());
    assert!((score - 0.8237).abs() < 0.002, "{score}");
}

#[test]
fn bad_requests_are_told_what_is_wrong() {
    let conversion = Conversion::new("64");
    let server = Server::start(conversion.path(), &["--name", "tiny"]);
    let refused = |body: &[u8], path: &str, status: u16, code: &str, word: &str| {
        let answer = server.send("POST", path, "Content-Type: application/json\r\n", body);
        assert_eq!(answer.status, status, "{word}: {answer:?}");
        let error = answer.json()["error"].clone();
        assert_eq!(error["code"], code, "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(word), "{word}: {message}");
        error
    };
    let value = |value: Value| value.to_string().into_bytes();
    refused(b"{", CHAT, 400, "A1011", "not valid JSON");
    refused(b"[]", CHAT, 400, "A1011", "must be a JSON object");
    let deep = format!("{{\"messages\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    refused(deep.as_bytes(), CHAT, 400, "A1011", "recursion limit");
    let deep = format!("{{\"messages\": {}{}}}", "[".repeat(100), "]".repeat(100));
    refused(deep.as_bytes(), CHAT, 400, "A1011", "64 levels");
    let large = vec![b' '; 17 << 20];
    refused(&large, CHAT, 413, "A1012", "16777216");
    let other = value(json!({ "model": "gpt-4", "messages": user("a") }));
    let error = refused(
        &other,
        CHAT,
        404,
        "A1016",
        "the model \"gpt-4\" is not served here: this server has \"tiny\"",
    );
    assert_eq!(error["param"], "model");
    let long = value(json!({ "prompt": "king ".repeat(100) }));
    let error = refused(&long, TEXT, 400, "A0903", "more than fit into the context of 64");
    assert_eq!((&error["param"], &error["type"]), (&Value::Null, &json!("invalid_request_error")));
    refused(&value(json!({ "prompt": "" , "max_tokens": -1 })), TEXT, 400, "A1011", "max_tokens");
    refused(&value(json!({ "prompt": [5_000_000] })), TEXT, 400, "A0902", "5000000");
    refused(&value(json!({ "prompt": [] })), TEXT, 400, "A0903", "no tokens");
    let image = json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url" }] }] });
    refused(&value(image), CHAT, 400, "A1011", "image_url");
    refused(&value(json!({ "messages": [] })), CHAT, 400, "A1011", "is empty");
    let tools = json!({ "messages": user("a"), "tools": [{ "type": "function", "function": {} }] });
    refused(&value(tools), CHAT, 400, "A1011", "template");
    refused(b"{}", "/v1/responses", 404, "A1011", "nothing at /v1/responses");
    let answer = server.get(CHAT);
    assert_eq!(answer.status, 405);
    assert!(answer.head.to_ascii_lowercase().contains("allow: post"), "{}", answer.head);
    // A page of others, or a name of others that means this machine.
    let origin = server.send("POST", CHAT, "Origin: http://evil.example\r\n", b"{}");
    assert_eq!((origin.status, origin.json()["error"]["code"].clone()), (403, json!("A1014")));
    // None of this did any harm.
    assert_eq!(server.post(TEXT, &json!({ "prompt": "The", "max_tokens": 1 })).status, 200);
    assert_eq!(server.get("/v1/models").json()["data"][0]["id"], "tiny");
    assert_eq!(server.get("/v1/models/tiny").json()["max_model_len"], 64);
    assert_eq!(server.get("/v1/models/other").status, 404);
    assert_eq!(server.get("/health").json(), json!({ "status": "ok" }));
    let counted = "anemll_requests_total{endpoint=\"/v1/completions\",status=\"200\"}";
    assert_eq!(server.metric(counted), 1.0);
}

#[test]
fn keys_and_addresses() {
    let conversion = Conversion::new("64");
    let error = conversion.refused(&["--host", "0.0.0.0", "--port", "0"]);
    assert!(error.contains("error[A1002]") && error.contains("--api-key-file"), "{error}");
    let keys: PathBuf = conversion.path().join("keys");
    std::fs::write(&keys, "short\n").unwrap();
    let file = keys.to_str().unwrap().to_owned();
    let error = conversion.refused(&["--api-key-file", &file]);
    assert!(error.contains("error[A1002]") && error.contains("16 characters"), "{error}");
    std::fs::write(&keys, "0123456789abcdef\n").unwrap();
    let server = Server::start(conversion.path(), &["--host", "0.0.0.0", "--api-key-file", &file]);
    let port = server.port.to_string();
    let error =
        conversion.refused(&["--port", &port, "--host", "0.0.0.0", "--api-key-file", &file]);
    assert!(error.contains("error[A1001]") && error.contains("in use"), "{error}");
    let answer = server.get("/v1/models");
    assert_eq!((answer.status, answer.json()["error"]["code"].clone()), (401, json!("A1015")));
    assert!(answer.head.to_ascii_lowercase().contains("www-authenticate: bearer"));
    assert_eq!(server.get("/metrics").status, 401);
    for open in ["/", "/health"] {
        assert_eq!(server.get(open).status, 200);
    }
    let shown = |key: &str| {
        let line = format!("Authorization: Bearer {key}\r\n");
        server.send("GET", "/v1/models", &line, b"").status
    };
    assert_eq!(shown("0123456789abcdef"), 200);
    assert_eq!(shown("0123456789abcdeg"), 401);
}

/// A connection with a request that was sent.
fn asking(server: &Server, request: &Value) -> TcpStream {
    let (mut stream, body) = (server.connect(), request.to_string());
    let head = format!(
        "POST {TEXT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    stream
}

/// The beginning of a stream whose answer takes some seconds.
fn long_stream(server: &Server) -> TcpStream {
    let request = json!({
        "prompt": "The king", "max_tokens": 2000, "stream": true,
        "temperature": 2.0, "seed": 5, "repetition_penalty": 1.2,
    });
    let mut stream = asking(server, &request);
    let mut begin = [0; 400];
    stream.read_exact(&mut begin).unwrap();
    stream
}

/// Waits until something is so.
fn eventually(what: &str, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_line_that_is_full_and_clients_that_leave() {
    let conversion = Conversion::new("2048");
    let server = Server::start(conversion.path(), &["--queue", "0"]);
    let running = long_stream(&server);
    let answer = server.post(TEXT, &json!({ "prompt": "The" }));
    assert_eq!((answer.status, answer.json()["error"]["code"].clone()), (429, json!("A1017")));
    assert!(answer.head.to_ascii_lowercase().contains("retry-after: "), "{}", answer.head);
    assert_eq!(server.metric("anemll_requests_running "), 1.0);
    // Whoever leaves makes room.
    drop(running);
    eventually("the answer goes on", || server.metric("anemll_answers_cancelled_total ") == 1.0);
    let short = json!({ "prompt": "The", "max_tokens": 1 });
    eventually("there is no room", || server.post(TEXT, &short).status == 200);
}

#[test]
fn slots_answer_at_once() {
    let conversion = Conversion::new("2048");
    let server = Server::start(conversion.path(), &["--slots", "2", "--queue", "1"]);
    let running = long_stream(&server);
    // Another slot answers, while the first one is at work.
    let answer = server.post(TEXT, &json!({ "prompt": "The", "max_tokens": 3 }));
    assert_eq!(answer.status, 200);
    // A client hears of the end before its slot looks for the next request.
    eventually("the first ends", || server.metric("anemll_requests_running ") == 1.0);
    drop(running);
}

#[test]
fn clients_that_say_nothing_keep_nobody_out() {
    let conversion = Conversion::new("64");
    let server = Server::start(conversion.path(), &[]);
    let silent: Vec<TcpStream> = (0..200).map(|_| server.connect()).collect();
    for mut stream in &silent {
        stream.write_all(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n").unwrap();
    }
    assert_eq!(server.post(TEXT, &json!({ "prompt": "The", "max_tokens": 1 })).status, 200);
    assert!(server.metric("anemll_connections ") > 200.0);
    drop(silent);
    eventually("connections stay", || server.metric("anemll_connections ") == 1.0);
    // What is no HTTP is told so.
    let mut stream = server.connect();
    stream.write_all(b"\x16\x03\x01\x02\r\n\r\n").unwrap();
    assert_eq!(answer(stream).status, 400);
}

#[test]
fn hundreds_at_once_get_a_clear_answer_each() {
    let conversion = Conversion::new("64");
    let server = Server::start(conversion.path(), &["--queue", "16"]);
    let silent: Vec<TcpStream> = (0..100).map(|_| server.connect()).collect();
    // Some read their answers last of all.
    let (deaf, eager): (Vec<_>, Vec<_>) = (0..200)
        .map(|number| {
            let stream = number % 4 == 0;
            let request = json!({ "prompt": "The king", "max_tokens": 2, "stream": stream });
            (stream, asking(&server, &request))
        })
        .partition(|(deaf, _)| *deaf);
    let mut whole = 0;
    for (streamed, stream) in eager.into_iter().chain(deaf) {
        let answer = answer(stream);
        match answer.status {
            200 if streamed => assert_eq!(answer.events().last(), Some(&"[DONE]")),
            200 => assert_eq!(answer.json()["usage"]["completion_tokens"], 2),
            _ => assert_eq!(
                (answer.status, &*answer.json()["error"]["code"].to_string()),
                (429, "\"A1017\"")
            ),
        }
        whole += usize::from(answer.status == 200);
    }
    // As many as there is room for at least.
    assert!(whole >= 17, "{whole}");
    drop(silent);
    assert_eq!(server.post(TEXT, &json!({ "prompt": "The", "max_tokens": 1 })).status, 200);
}

/// Whatever becomes of the files: weights were read before the first request.
#[test]
fn a_conversion_that_is_overwritten_or_removed_is_served_on() {
    let conversion = Conversion::new("64");
    let prompt = "The king said to the queen that he was going into the wood";
    let expected = conversion.told("generate", &["--prompt", prompt, "--max-tokens", "20"]);
    let server = Server::start(conversion.path(), &["--slots", "2"]);
    let same = |what: &str| {
        let answer = server.post(TEXT, &json!({ "prompt": prompt, "max_tokens": 20 }));
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
        let text = answer.json()["choices"][0]["text"].as_str().unwrap().to_owned();
        assert_eq!(format!("{prompt}{text}\n"), expected, "{what}");
    };
    let mut files = 0;
    for (path, bytes) in anemll_tests::files(conversion.path()) {
        if path.ends_with("weight.bin") {
            std::fs::write(conversion.path().join(path), vec![0; bytes.len() / 2]).unwrap();
            files += 1;
        }
    }
    assert!(files > 2);
    same("overwritten");
    std::fs::remove_dir_all(conversion.path()).unwrap();
    same("removed");
}

#[cfg(unix)]
#[test]
fn a_server_that_is_asked_to_end_answers_to_the_end() {
    let conversion = Conversion::new("64");
    let mut server = Server::start(conversion.path(), &[]);
    let mut idle = server.connect();
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut byte = [0; 1];
    idle.read_exact(&mut byte).unwrap();
    #[expect(unsafe_code, reason = "there is no safe way to send a signal")]
    // SAFETY: the process is our child, which was not waited for.
    let sent = unsafe { libc::kill(server.child.id().cast_signed(), libc::SIGTERM) };
    assert_eq!(sent, 0);
    let status = server.child.wait().unwrap();
    let mut rest = String::new();
    server.told.read_to_string(&mut rest).unwrap();
    assert_eq!((status.code(), rest.as_str()), (Some(0), ""));
}

#[test]
fn vectors_are_those_of_embed() {
    let (source, folder) = (with_tokenizer(), tempfile::tempdir().unwrap());
    let out = folder.path().join("out");
    let arguments = ["--context", "32", "--batch", "8", "--lut", "none", "-o"];
    succeed(anemll().arg("convert").arg(source.path()).args(arguments).arg(&out));
    let (texts, kind) = (["a text", "another, longer text"], ["--prompt-name", "query"]);
    let embed = |more: &[&str]| -> Vec<Value> {
        let mut command = anemll();
        command.args(["embed", "--meta"]).arg(&out).args(texts).args(more);
        let text = String::from_utf8(succeed(&mut command).stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let server = Server::start(&out, &["--slots", "2", "--name", "vectors"]);
    let vectors = "/v1/embeddings";
    let ask = |request: Value| {
        let answer = server.post(vectors, &request);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };

    let floats = |value: &Value| -> Vec<f32> { serde_json::from_value(value.clone()).unwrap() };
    for (more, kind) in [(&[][..], Value::Null), (&kind, json!("query"))] {
        let printed = embed(more);
        let answer = ask(json!({ "model": "vectors", "input": texts, "prompt_name": kind }));
        for (index, printed) in printed.iter().enumerate() {
            let vector = &answer["data"][index]["embedding"];
            assert_eq!(floats(vector), floats(&printed["embedding"]));
            assert_eq!(answer["data"][index]["index"], index);
        }
        let tokens: u64 = printed.iter().map(|it| it["tokens"].as_u64().unwrap()).sum();
        assert_eq!(answer["usage"]["total_tokens"], tokens);
    }
    let whole = floats(&ask(json!({ "input": "a text" }))["data"][0]["embedding"]);
    let packed = ask(json!({ "input": "a text", "encoding_format": "base64" }));
    let packed = packed["data"][0]["embedding"].as_str().unwrap();
    let bytes: Vec<u8> = whole.iter().flat_map(|it| it.to_le_bytes()).collect();
    assert_eq!(packed, BASE64_STANDARD.encode(bytes));
    let cut = floats(&ask(json!({ "input": "a text", "dimensions": 4 }))["data"][0]["embedding"]);
    let length = whole[..4].iter().map(|it| it * it).sum::<f32>().sqrt();
    for (cut, whole) in cut.iter().zip(&whole) {
        assert!((cut - whole / length).abs() < 1e-6, "{cut} {whole} {length}");
    }
    assert_eq!(cut.len(), 4);

    let refused = |request: Value, status: u16, parameter: &str| {
        let answer = server.post(vectors, &request);
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["param"]), (status, &json!(parameter)), "{request}");
    };
    let long = "word ".repeat(100);
    refused(json!({ "input": ["a", long] }), 400, "input[1]");
    refused(json!({ "input": [[1, 2], [99_999_999]] }), 400, "input[1]");
    refused(json!({ "input": "a", "dimensions": whole.len() + 1 }), 400, "dimensions");
    refused(json!({ "input": "a", "prompt_name": "nothing" }), 400, "prompt_name");
    refused(json!({ "input": "a", "model": "other" }), 404, "model");
    let chat = server.post("/v1/chat/completions", &json!({ "messages": user("Hello") }));
    assert_eq!((chat.status, &chat.json()["error"]["code"]), (400, &json!("A0712")));
    assert_eq!(server.get("/").status, 200);
    assert!(server.get("/").body.contains(vectors));
}
