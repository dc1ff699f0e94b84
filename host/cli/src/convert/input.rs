//! Files of other VMMs, read within a limit, with all mistakes in one error.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::bail;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Far more than the largest of these files, a fingerprint of 40 KiB.
const MOST_BYTES: u64 = 4 << 20;

/// The most mistakes that an error lists.
const MOST_LISTED: usize = 32;

/// A file's bytes, and the JSON in them.
pub(super) fn read(path: &Path) -> anyhow::Result<(Vec<u8>, Value)> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        bail!("it is larger than {} MiB, which no such file is", MOST_BYTES >> 20);
    }
    let json: Value = serde_json::from_slice(&bytes)?;
    if !json.is_object() {
        bail!("it has {} where a JSON object is expected", kind(&json));
    }
    Ok((bytes, json))
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

/// The bytes as a `T`. `mistakes` finds everything that is wrong in them, if something is.
pub(super) fn typed<T: DeserializeOwned>(
    bytes: &[u8],
    mistakes: impl FnOnce() -> Vec<String>,
) -> anyhow::Result<T> {
    let error = match serde_json::from_slice(bytes) {
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

/// Each mistake in a line of its own.
pub(super) fn lines(mistakes: &[String]) -> String {
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
