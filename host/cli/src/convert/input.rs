//! Files of other VMMs, read within a limit, with all mistakes in one error.

use std::path::Path;

use anyhow::{anyhow, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;
use wasmsr_engine::text_file;

/// Far more than the largest of these files, a fingerprint of 40 KiB.
const MOST_BYTES: u64 = 4 << 20;

/// The most mistakes that an error lists.
const MOST_LISTED: usize = 32;

/// A file's text, and the JSON in it.
pub(super) fn read(path: &Path) -> anyhow::Result<(String, Value)> {
    let text = text_file::read(path, MOST_BYTES, "such file")?;
    let json: Value = serde_json::from_str(&text)?;
    if !json.is_object() {
        bail!("it has {} where a JSON object is expected", kind(&json));
    }
    Ok((text, json))
}

fn kind(json: &Value) -> &'static str {
    match json {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The text as a `T`. `mistakes` finds everything that is wrong in it, if something is.
pub(super) fn typed<T: DeserializeOwned>(
    text: &str,
    mistakes: impl FnOnce() -> Vec<String>,
) -> anyhow::Result<T> {
    let error = match serde_json::from_str(text) {
        Ok(typed) => return Ok(typed),
        Err(error) => error,
    };
    match mistakes().as_slice() {
        [] => Err(error.into()),
        [one] => {
            bail!("{one} at line {} column {}", error.line(), error.column())
        }
        many => {
            let (line, column) = (error.line(), error.column());
            bail!("{}\nthe first is at line {line} column {column}", lines(many))
        }
    }
}

/// All mistakes as one error; `None` if there are none.
pub(super) fn in_one(mistakes: &[String]) -> Option<anyhow::Error> {
    match mistakes {
        [] => None,
        [one] => Some(anyhow!("{one}")),
        many => Some(anyhow!("{}", lines(many))),
    }
}

/// Each mistake in a line of its own.
fn lines(mistakes: &[String]) -> String {
    let mut text = format!("{} mistakes", mistakes.len());
    for mistake in mistakes.iter().take(MOST_LISTED) {
        text += "\n";
        text += mistake;
    }
    if mistakes.len() > MOST_LISTED {
        text += &format!("\nand {} more", mistakes.len() - MOST_LISTED);
    }
    text
}
