//! Errors, tensors, paths and JSON in their two forms.

use std::path::{Path, PathBuf};

use abi_stable::std_types::{ROption, RResult, RSlice, RStr, RString};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::v1::{Abi, AbiTensor, Blob, FORMAT_COREML_MODEL, PluginError};
use crate::{DType, Error, Result, TensorView, codes, limits};

impl From<Error> for PluginError {
    fn from(error: Error) -> Self {
        let error = bounded(error);
        Self {
            code: error.code.into(),
            message: error.message.into(),
            hint: error.hint.map(RString::from).into(),
            at: error.at.map(RString::from).into(),
            causes: error.causes.into_iter().map(RString::from).collect(),
        }
    }
}

impl From<PluginError> for Error {
    fn from(error: PluginError) -> Self {
        let owned = |text: ROption<RString>| text.into_option().map(RString::into_string);
        // One more than is kept shows `bounded` that something is left out.
        let causes = error.causes.into_iter().take(limits::CAUSES + 1);
        bounded(Self {
            code: error.code.into_string(),
            message: error.message.into_string(),
            hint: owned(error.hint),
            at: owned(error.at),
            causes: causes.map(RString::into_string).collect(),
        })
    }
}

/// The error with all texts in bounds and fit for a terminal. Both sides do this: neither relies on
/// the other.
fn bounded(mut error: Error) -> Error {
    if !codes::is_well_formed(&error.code) {
        error.causes.insert(0, format!("the error came with the code `{}`", error.code));
        error.code = codes::PLUGIN_BAD_ANSWER.to_owned();
    }
    error.message = one_line(&error.message);
    error.hint = error.hint.map(|hint| one_line(&hint));
    error.at = error.at.map(|at| one_line(&at));
    if error.causes.len() > limits::CAUSES {
        error.causes.truncate(limits::CAUSES - 1);
        error.causes.push("further causes are left out".to_owned());
    }
    for cause in &mut error.causes {
        *cause = printable(cause);
    }
    error
}

/// The text on one line, in bounds, without control characters.
pub(super) fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut joined = String::new();
    for line in lines {
        if joined.len() > limits::TEXT {
            break;
        }
        if !joined.is_empty() {
            joined.push_str("; ");
        }
        joined.push_str(line);
    }
    printable(&joined)
}

/// The text in bounds, with line breaks but without other control characters, which could drive a
/// terminal.
pub(super) fn printable(text: &str) -> String {
    let cut = boundary_at_most(text, limits::TEXT);
    let mut result: String = text[..cut]
        .chars()
        .map(|character| match character {
            '\n' | '\t' => character,
            character if character.is_control() => char::REPLACEMENT_CHARACTER,
            character => character,
        })
        .collect();
    if cut < text.len() {
        result.push('…');
    }
    result
}

/// The greatest place for a cut that is not inside a character.
fn boundary_at_most(text: &str, most: usize) -> usize {
    let mut cut = most.min(text.len());
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    cut
}

pub(super) fn to_abi<T>(result: Result<T>) -> Abi<T> {
    match result {
        Ok(value) => RResult::ROk(value),
        Err(error) => RResult::RErr(error.into()),
    }
}

pub(super) fn from_abi<T>(result: Abi<T>) -> Result<T> {
    match result {
        RResult::ROk(value) => Ok(value),
        RResult::RErr(error) => Err(error.into()),
    }
}

/// What a plugin's entry returned; for the host's side. An error that came without a valid code says
/// whose it is, since it may say nothing else that can be understood.
pub(super) fn answered<T>(plugin: &str, entry: &str, result: Abi<T>) -> Result<T> {
    from_abi(result).map_err(|error| match error.code == codes::PLUGIN_BAD_ANSWER {
        true => {
            let message = format!("plugin `{plugin}` failed in `{entry}`: {}", error.message);
            bounded(Error { message, ..error })
        }
        false => error,
    })
}

pub(super) fn tensor_to_abi(tensor: TensorView<'_>) -> AbiTensor<'_> {
    AbiTensor {
        name: RStr::from_str(tensor.name()),
        dtype: tensor.dtype().0,
        shape: RSlice::from_slice(tensor.shape()),
        bytes: RSlice::from_slice(tensor.bytes()),
    }
}

pub(super) fn tensor_from_abi(tensor: AbiTensor<'_>) -> Result<TensorView<'_>> {
    TensorView::new(
        tensor.name.as_str(),
        DType(tensor.dtype),
        tensor.shape.as_slice(),
        tensor.bytes.as_slice(),
    )
}

/// A request as JSON.
pub(super) fn to_json<T: Serialize>(entry: &str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| {
        Error::new(codes::INTERNAL, format!("the data of `{entry}` cannot be written: {error}"))
    })
}

/// A request that came as JSON; for the plugin's side.
pub(super) fn request<T: DeserializeOwned>(entry: &str, json: RStr<'_>) -> Result<T> {
    serde_json::from_str(json.as_str()).map_err(|error| {
        Error::new(
            codes::PLUGIN_BAD_REQUEST,
            format!("the request to `{entry}` cannot be read: {error}"),
        )
        .with_hint("host and plugin may be of very different versions; update the older one")
    })
}

/// An answer that came as JSON; for the host's side.
pub(super) fn answer<T: DeserializeOwned>(plugin: &str, entry: &str, json: &str) -> Result<T> {
    if json.len() > limits::JSON {
        return Err(bad_answer(
            plugin,
            entry,
            &format!("{} bytes are more than {}", json.len(), limits::JSON),
        ));
    }
    serde_json::from_str(json).map_err(|error| bad_answer(plugin, entry, &error.to_string()))
}

/// The bytes of a serialized Core ML model.
pub(super) fn coreml_model(plugin: &str, entry: &str, blob: Blob) -> Result<Vec<u8>> {
    if blob.format.as_str() != FORMAT_COREML_MODEL {
        let format = one_line(&blob.format);
        return Err(bad_answer(plugin, entry, &format!("its format `{format}` is not known")));
    }
    Ok(blob.bytes.into_vec())
}

pub(super) fn coreml_blob(bytes: Vec<u8>) -> Blob {
    Blob { format: FORMAT_COREML_MODEL.into(), bytes: bytes.into() }
}

/// The error of an answer that cannot be used.
pub(super) fn bad_answer(plugin: &str, entry: &str, why: &str) -> Error {
    Error::new(
        codes::PLUGIN_BAD_ANSWER,
        format!("the answer of plugin `{plugin}` to `{entry}` cannot be used: {}", one_line(why)),
    )
    .with_hint("this is a bug in the plugin; please report it to its author")
}

#[cfg(unix)]
pub(super) fn path_to_bytes(path: &Path) -> Result<&[u8]> {
    use std::os::unix::ffi::OsStrExt;
    Ok(path.as_os_str().as_bytes())
}

#[cfg(not(unix))]
pub(super) fn path_to_bytes(path: &Path) -> Result<&[u8]> {
    path.to_str().map(str::as_bytes).ok_or_else(|| {
        Error::new(codes::PLUGIN_BAD_REQUEST, "the path cannot be written as UTF-8")
            .with_at(path.display().to_string())
    })
}

#[cfg(unix)]
pub(super) fn path_from_bytes(bytes: &[u8]) -> Result<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(bytes)))
}

#[cfg(not(unix))]
pub(super) fn path_from_bytes(bytes: &[u8]) -> Result<PathBuf> {
    match std::str::from_utf8(bytes) {
        Ok(path) => Ok(PathBuf::from(path)),
        Err(_) => Err(Error::new(codes::PLUGIN_BAD_REQUEST, "a path is not UTF-8")),
    }
}
