//! A request for the next message of a conversation.

use crate::failure::Failure;
use crate::request::fields::{Fields, short};
use crate::request::settings::{MOST_LIKELY, Settings};
use serde_json::{Map, Value, json};

/// A conversation that is to be gone on with.
#[derive(Debug)]
pub(crate) struct ChatRequest {
    /// Messages as the chat template takes them.
    pub(crate) messages: Vec<Value>,
    /// Functions that the model may call; null where there are none.
    pub(crate) tools: Value,
    /// Further variables of the chat template.
    pub(crate) variables: Map<String, Value>,
    /// How the answer is made.
    pub(crate) settings: Settings,
}

impl ChatRequest {
    /// Reads a request.
    pub(crate) fn read(fields: &Fields<'_>) -> Result<Self, Failure> {
        for (key, neutral) in [
            ("audio", vec![]),
            ("modalities", vec![json!(["text"])]),
            ("function_call", vec![json!("auto"), json!("none")]),
            ("functions", vec![json!([])]),
            ("tool_choice", vec![json!("auto"), json!("none")]),
        ] {
            fields.only(key, &neutral)?;
        }
        let mut settings = Settings::read(fields)?;
        settings.most = match fields.count("max_completion_tokens", u64::MAX)? {
            Some(most) => Some(most),
            None => fields.count("max_tokens", u64::MAX)?,
        };
        let likely = fields.count("top_logprobs", MOST_LIKELY)?;
        if fields.flag("logprobs")? {
            settings.likely = Some(likely.unwrap_or(0) as usize);
        } else if likely.is_some_and(|count| count > 0) {
            return Err(Failure::invalid("top_logprobs", "needs `logprobs`"));
        }
        let messages = match fields.get("messages") {
            Some(Value::Array(messages)) if !messages.is_empty() => messages,
            Some(Value::Array(_)) => return Err(Failure::invalid("messages", "is empty")),
            Some(value) => {
                return Err(Failure::invalid(
                    "messages",
                    format!("must be a list of messages, not {}", short(value)),
                ));
            }
            None => return Err(Failure::invalid("messages", "is missing")),
        };
        let messages: Result<Vec<Value>, Failure> =
            messages.iter().enumerate().map(|(index, value)| message(index, value)).collect();
        let variables = fields.object("chat_template_kwargs")?.cloned().unwrap_or_default();
        Ok(Self { messages: messages?, tools: tools(fields)?, variables, settings })
    }
}

/// The functions, unless they are not to be called.
fn tools(fields: &Fields<'_>) -> Result<Value, Failure> {
    let tools = match fields.get("tools") {
        None => return Ok(Value::Null),
        Some(Value::Array(tools)) => tools,
        Some(value) => {
            return Err(Failure::invalid("tools", format!("must be a list, not {}", short(value))));
        }
    };
    for (index, tool) in tools.iter().enumerate() {
        if tool.get("type").is_none_or(|kind| kind != "function") || !tool["function"].is_object() {
            return Err(Failure::invalid(
                &format!("tools[{index}]"),
                "must be {\"type\": \"function\", \"function\": {…}}",
            ));
        }
    }
    let none = fields.get("tool_choice").is_some_and(|choice| choice == "none");
    Ok(if none || tools.is_empty() { Value::Null } else { Value::Array(tools.clone()) })
}

/// A message as templates take it: its content one text, the arguments of calls as what they say.
fn message(index: usize, value: &Value) -> Result<Value, Failure> {
    let at = format!("messages[{index}]");
    let Value::Object(fields) = value else {
        return Err(Failure::invalid(&at, format!("must be an object, not {}", short(value))));
    };
    match fields.get("role") {
        Some(Value::String(role)) if !role.is_empty() => {}
        Some(role) => {
            let reason = format!("must be a text such as \"user\", not {}", short(role));
            return Err(Failure::invalid(&format!("{at}.role"), reason));
        }
        None => return Err(Failure::invalid(&format!("{at}.role"), "is missing")),
    }
    let mut message = fields.clone();
    let calls = fields.get("tool_calls").is_some_and(|calls| !calls.is_null());
    match fields.get("content") {
        Some(content) if !content.is_null() => {
            let text = content_text(&format!("{at}.content"), content)?;
            message.insert("content".to_owned(), Value::String(text));
        }
        // A message that calls functions may have nothing else to say.
        _ if calls => {
            message.insert("content".to_owned(), Value::String(String::new()));
        }
        _ => return Err(Failure::invalid(&format!("{at}.content"), "is missing")),
    }
    if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
        for call in calls {
            // Templates write the arguments themselves, as JSON.
            if let Some(arguments) = call.pointer_mut("/function/arguments")
                && let Some(text) = arguments.as_str()
                && let Ok(read @ Value::Object(_)) = serde_json::from_str::<Value>(text)
            {
                *arguments = read;
            }
        }
    }
    Ok(Value::Object(message))
}

/// A text, or parts that are texts, a line each.
fn content_text(at: &str, content: &Value) -> Result<String, Failure> {
    let parts = match content {
        Value::String(text) => return Ok(text.clone()),
        Value::Array(parts) => parts,
        other => {
            return Err(Failure::invalid(
                at,
                format!("must be a text or a list of parts, not {}", short(other)),
            ));
        }
    };
    let mut texts = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let at = format!("{at}[{index}]");
        match (part.get("type").and_then(Value::as_str), part.get("text")) {
            (Some("text"), Some(Value::String(text))) => texts.push(text.as_str()),
            (Some("text"), _) => return Err(Failure::invalid(&format!("{at}.text"), "is missing")),
            (Some(kind), _) => {
                let kind = short(&Value::from(kind));
                let reason = format!("is of the type {kind}, but this model reads texts alone");
                return Err(Failure::invalid(&at, reason));
            }
            (None, _) => return Err(Failure::invalid(&format!("{at}.type"), "is missing")),
        }
    }
    Ok(texts.join("\n"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<ChatRequest, String> {
        let Value::Object(fields) = value else { panic!("an object") };
        ChatRequest::read(&Fields(&fields)).map_err(|failure| failure.body()["error"].to_string())
    }

    fn hello() -> Value {
        json!([{ "role": "user", "content": "Hello" }])
    }

    #[test]
    fn settings_are_read() {
        let request = read(json!({
            "messages": hello(), "temperature": 0.5, "top_k": -1, "seed": -1, "stop": "END",
            "max_tokens": 7, "max_completion_tokens": 8, "logprobs": true, "top_logprobs": 3,
            "stream": true, "stream_options": { "include_usage": true }, "n": 1, "user": "someone",
            "presence_penalty": null, "chat_template_kwargs": { "enable_thinking": false },
        }));
        let request = request.unwrap();
        let settings = request.settings;
        assert_eq!(settings.wanted.temperature, Some(0.5));
        assert_eq!(settings.wanted.top_k, Some(0));
        assert_eq!(settings.wanted.presence_penalty, None);
        assert_eq!((settings.seed, settings.most), (Some(u64::MAX), Some(8)));
        assert_eq!((settings.stop, settings.likely), (vec!["END".to_owned()], Some(3)));
        assert!(settings.stream && settings.include_usage);
        assert_eq!(request.variables["enable_thinking"], false);
        assert!(request.tools.is_null());
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_name() {
        for (key, value) in [
            ("temperature", json!(-1)),
            ("temperature", json!("warm")),
            ("top_p", json!(1.5)),
            ("top_k", json!(-2)),
            ("n", json!(2)),
            ("seed", json!(0.5)),
            ("stop", json!([1])),
            ("stop", json!("")),
            ("stream", json!("yes")),
            ("stream_options", json!({ "include_usage": true })),
            ("max_tokens", json!(-1)),
            ("top_logprobs", json!(5)),
            ("top_logprobs", json!(21)),
            ("logit_bias", json!({ "5": 1 })),
            ("response_format", json!({ "type": "json_object" })),
            ("tool_choice", json!("required")),
            ("tools", json!({})),
            ("tools[0]", json!(null)),
            ("messages", json!([])),
            ("messages", json!("Hello")),
            ("messages", json!(null)),
            ("audio", json!({})),
        ] {
            let mut request = json!({ "messages": hello() });
            match key {
                "tools[0]" => request["tools"] = json!([{ "type": "function" }]),
                key => request[key] = value.clone(),
            }
            let error = read(request).unwrap_err();
            assert!(error.contains(&format!("\"param\":\"{key}\"")), "{key} {value}: {error}");
        }
    }

    #[test]
    fn contents_become_texts() {
        let parts = json!([{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }]);
        let request = read(json!({ "messages": [{ "role": "user", "content": parts }] }));
        assert_eq!(request.unwrap().messages[0]["content"], "a\nb");
        let image = json!([{ "type": "image_url", "image_url": { "url": "data:" } }]);
        for (content, at) in [
            (image, "messages[0].content[0]"),
            (json!([{ "text": "a" }]), "messages[0].content[0].type"),
            (json!([{ "type": "text" }]), "messages[0].content[0].text"),
            (json!(7), "messages[0].content"),
            (json!(null), "messages[0].content"),
        ] {
            let error = read(json!({ "messages": [{ "role": "user", "content": content }] }));
            assert!(error.unwrap_err().contains(&format!("\"param\":\"{at}\"")), "{at}");
        }
        let error = read(json!({ "messages": [{ "content": "x" }] })).unwrap_err();
        assert!(error.contains("messages[0].role"), "{error}");
    }

    #[test]
    fn calls_have_their_arguments_as_they_are() {
        let call = |arguments: &str| {
            json!({ "role": "assistant", "content": null, "tool_calls": [
                { "id": "1", "type": "function", "function": { "name": "f", "arguments": arguments } }
            ] })
        };
        let tool = json!({ "type": "function", "function": { "name": "f" } });
        let messages = json!([
            call("{\"city\": \"Rome\"}"), call("no JSON"),
            { "role": "tool", "tool_call_id": "1", "content": "sunny" },
        ]);
        let request = read(json!({ "messages": messages, "tools": [tool] })).unwrap();
        let arguments =
            |index: usize| &request.messages[index]["tool_calls"][0]["function"]["arguments"];
        assert_eq!(*arguments(0), json!({ "city": "Rome" }));
        assert_eq!(*arguments(1), json!("no JSON"));
        assert_eq!(request.messages[0]["content"], "");
        assert_eq!(request.messages[2]["tool_call_id"], "1");
        assert_eq!(request.tools, json!([tool]));
        let none = read(json!({ "messages": hello(), "tools": [tool], "tool_choice": "none" }));
        assert!(none.unwrap().tools.is_null());
    }
}
