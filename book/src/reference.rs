//! The references of profile and manifest in the documents, made from the types
//! that serde reads: keys and their order come from serde; types, defaults and
//! meanings come from the schema that schemars makes of the doc comments.

#![expect(clippy::panic, clippy::expect_used, reason = "called by tests, which fail by panicking")]

use std::marker::PhantomData;

use bytesize::ByteSize;
use schemars::{JsonSchema, Schema, schema_for};
use serde::de::{self, DeserializeOwned, Visitor};
use serde_json::{Map, Value};

use crate::generated;

/// The tables of one page, about the file that is read as an `F`.
#[derive(Debug)]
pub struct Reference<F> {
    page: &'static str,
    file: PhantomData<F>,
}

impl<F: JsonSchema> Reference<F> {
    /// The reference on this page, a path from the workspace.
    pub fn of(page: &'static str) -> Self {
        Reference { page, file: PhantomData }
    }

    /// Holds the page's table of the keys of a `T`: type, default, meaning.
    ///
    /// # Panics
    /// If the page has something else: it is what a test calls. All methods do so.
    #[track_caller]
    pub fn table<T: JsonSchema + DeserializeOwned>(&self, name: &str) {
        let schema = schema_for!(T);
        let mut text = "| key | type | default | meaning |\n|---|---|---|---|\n".to_owned();
        for key in keys::<T>() {
            let pointer = format!("/properties/{key}");
            let property = schema.pointer(&pointer).unwrap_or(&Value::Null);
            let required = schema.get("required").and_then(Value::as_array);
            let required = required.is_some_and(|keys| keys.iter().any(|known| known == key));
            text += &format!(
                "| `{key}` | {} | {} | {} |\n",
                type_of(property, &schema),
                if required { "required".to_owned() } else { default_of(property, &schema) },
                one_line(described(property, key)),
            );
        }
        generated::hold(self.page, name, &text);
    }

    /// Holds the page's table of the values of an enumeration and their meanings.
    ///
    /// # Panics
    /// As [`table`](Self::table).
    #[track_caller]
    pub fn values<T: JsonSchema>(&self, name: &str) {
        let schema = schema_for!(T);
        let mut text = "| value | meaning |\n|---|---|\n".to_owned();
        for (value, schema) in variants(schema.as_value()) {
            text += &format!("| `\"{value}\"` | {} |\n", one_line(described(schema, &value)));
        }
        generated::hold(self.page, name, &text);
    }

    /// Holds the page's table of names and their meanings.
    ///
    /// # Panics
    /// As [`table`](Self::table).
    #[track_caller]
    pub fn rows(&self, name: &str, head: &str, rows: &[(&str, &str)]) {
        let rows = rows.iter().map(|(name, meaning)| format!("| `\"{name}\"` | {meaning} |\n"));
        let text = format!("{head}\n|---|---|\n{}", rows.collect::<String>());
        generated::hold(self.page, name, &text);
    }

    /// Holds the file's JSON schema, for editors.
    ///
    /// # Panics
    /// As [`table`](Self::table).
    #[track_caller]
    pub fn schema(&self, file: &str) {
        generated::hold_file(file, &pretty(schema::<F>()));
    }

    /// Holds the JSON schema of a file of which another program reads some tables,
    /// whose schema is in `others`.
    ///
    /// # Panics
    /// As [`table`](Self::table).
    #[track_caller]
    pub fn schema_with(&self, file: &str, others: &str) {
        let mut schema = schema::<F>();
        let others: Value = generated::committed(others).parse().expect("a schema is JSON");
        for part in ["properties", "$defs"] {
            let Some(Value::Object(others)) = others.get(part) else { continue };
            let whole = schema.as_object_mut().expect("a schema is an object");
            let whole = whole.entry(part).or_insert_with(|| Value::Object(Map::new()));
            let whole = whole.as_object_mut().expect("a part of a schema is an object");
            for (key, value) in others {
                // What this program reads itself is there with its keys.
                if !value.get(ELSEWHERE).is_some_and(|elsewhere| elsewhere == true) {
                    whole.insert(key.clone(), value.clone());
                }
            }
        }
        generated::hold_file(file, &pretty(schema));
    }
}

/// The mark of a table that another program reads.
const ELSEWHERE: &str = "x-elsewhere";

fn schema<F: JsonSchema>() -> Value {
    let mut schema = schema_for!(F).to_value();
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("title");
    }
    fit_for_editors(&mut schema);
    schema
}

#[track_caller]
fn pretty(schema: Value) -> String {
    // Back, for the order in which a schema shows its keys.
    let schema = Schema::try_from(schema).expect("a schema stays one");
    let schema = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
    format!("{schema}\n")
}

/// Types of keys that are more than what JSON calls them.
pub mod kind {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    macro_rules! kinds {
        ($($(#[$doc:meta])* $name:ident is $schema:tt)*) => {$(
            $(#[$doc])*
            #[derive(Debug)]
            pub struct $name;

            impl JsonSchema for $name {
                fn schema_name() -> Cow<'static, str> {
                    stringify!($name).to_lowercase().into()
                }

                fn inline_schema() -> bool {
                    true
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    json_schema!($schema)
                }
            }
        )*};
    }

    kinds! {
        /// Bytes, or a text with a unit.
        Size is { "type": ["integer", "string"], "title": "size" }
        /// A file's name.
        Path is { "type": "string", "title": "path" }
        /// MSRs.
        Range is { "type": ["string", "integer"] }
        /// Reads, writes or both.
        Access is { "type": "string", "enum": ["r", "w", "rw"] }
        /// Anything that TOML has.
        Table is { "type": "object" }
        /// A number of TOML's, or a text in hexadecimal, binary or decimal digits.
        Number is { "type": ["integer", "string"] }
        /// The change of a register of CPUID: its value, or its bits.
        CpuidRegister is {
            "type": ["integer", "string", "object"],
            "title": "number, text or table",
            "properties": {
                "set": { "type": ["integer", "string", "array"] },
                "clear": { "type": ["integer", "string", "array"] },
                "value": { "type": ["integer", "string"] }
            },
            "additionalProperties": false
        }
        /// A table that another program reads.
        Elsewhere is { "type": "object", "x-elsewhere": true }
    }
}

/// The keys that serde reads into a `T`, in their order.
fn keys<T: DeserializeOwned>() -> &'static [&'static str] {
    match T::deserialize(Keys) {
        Err(Asked(keys)) => keys,
        Ok(_) => panic!("no table"),
    }
}

/// Has nothing to read, and tells which keys were asked for.
struct Keys;

#[derive(Debug, thiserror::Error)]
#[error("asked for {0:?}")]
struct Asked(&'static [&'static str]);

impl de::Error for Asked {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Asked(&[])
    }
}

impl<'de> de::Deserializer<'de> for Keys {
    type Error = Asked;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Asked> {
        Err(Asked(&[]))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Asked> {
        Err(Asked(fields))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// A key's type, as the reference calls it.
fn type_of(property: &Value, root: &Schema) -> String {
    let schema = resolved(property, root);
    if let Some(title) = schema.get("title").and_then(Value::as_str) {
        return title.to_owned();
    }
    let values: Vec<String> =
        variants(schema).iter().map(|(value, _)| format!("`\"{value}\"`")).collect();
    match values.split_last() {
        Some((last, [])) => return last.clone(),
        Some((last, others)) => return format!("{} or {last}", others.join(", ")),
        None => {}
    }
    let types = match schema.get("type") {
        Some(Value::String(name)) => vec![name.as_str()],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => panic!("the schema of a key has no type: {property}"),
    };
    let words = types.into_iter().filter(|name| *name != "null").map(|name| match name {
        "string" => "text",
        "integer" | "number" => "number",
        "boolean" => "true, false",
        "array" => "list",
        "object" => "table",
        other => panic!("no word for the type {other}"),
    });
    words.collect::<Vec<_>>().join(" or ")
}

/// What holds where a key is not written: the schema's default, or in words
/// what no value of the key says.
fn default_of(property: &Value, root: &Schema) -> String {
    if let Some(words) = property.get(DEFAULT_IN_WORDS).and_then(Value::as_str) {
        return words.to_owned();
    }
    let schema = resolved(property, root);
    let is = |key: &str, value: &str| schema.get(key).is_some_and(|found| found == value);
    match property.get("default") {
        _ if is("type", "array") => "`[]`".to_owned(),
        _ if is("type", "object") => "`{}`".to_owned(),
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::String(size)) if is("title", "size") => format!("`\"{}\"`", short(size)),
        Some(value) => format!("`{value}`"),
    }
}

const DEFAULT_IN_WORDS: &str = "x-default";

/// A size without the spaces that the code shows it with.
fn short(size: &str) -> String {
    let bytes: ByteSize = size.parse().expect("a size is shown as it is read");
    bytes.to_string().replace(".0 ", "")
}

/// What editors show and check: descriptions as sentences, without links into
/// the documents; no `null`, which TOML does not have; nothing that is only for
/// the tables.
fn fit_for_editors(schema: &mut Value) {
    match schema {
        Value::Array(schemas) => {
            schemas.retain(|schema| schema.get("type").is_none_or(|name| name != "null"));
            schemas.iter_mut().for_each(fit_for_editors);
        }
        Value::Object(keys) => {
            keys.retain(|key, value| {
                !(key == DEFAULT_IN_WORDS || key == "writeOnly" || value.is_null())
            });
            if keys.get("title").is_some_and(|title| title == "size")
                && let Some(Value::String(size)) = keys.get_mut("default")
            {
                *size = short(size);
            }
            keys.remove("title");
            if let Some(Value::Array(types)) = keys.get_mut("type") {
                types.retain(|name| name != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    keys.insert("type".to_owned(), one);
                }
            }
            if let Some(Value::String(text)) = keys.get_mut("description") {
                *text = sentence(text);
            }
            keys.values_mut().for_each(fit_for_editors);
            let only = match keys.get("anyOf").and_then(Value::as_array).map(Vec::as_slice) {
                Some([Value::Object(only)]) => only.clone(),
                _ => return,
            };
            keys.remove("anyOf");
            keys.extend(only);
        }
        _ => {}
    }
}

/// A doc comment as a sentence of its own.
fn sentence(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut pieces = text.split('[');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        match piece.split_once("](").and_then(|(name, rest)| Some((name, rest.split_once(')')?.1)))
        {
            Some((name, rest)) => plain += &format!("{name}{rest}"),
            None => plain += &format!("[{piece}"),
        }
    }
    let mut letters = plain.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

#[test]
fn descriptions_are_sentences() {
    assert_eq!(sentence("the MSRs, as in a\n[manifest](m.md#msr)"), "The MSRs, as in a manifest.");
    assert_eq!(sentence("`[[msr]]` of it."), "`[[msr]]` of it.");
    assert_eq!(sentence("`\"hello\"`"), "`\"hello\"`.");
}

/// A schema, or what it refers to; without the `null` of an option.
fn resolved<'a>(schema: &'a Value, root: &'a Schema) -> &'a Value {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let target = root.pointer(reference.trim_start_matches('#'));
        return resolved(target.expect("a reference leads somewhere"), root);
    }
    let choices = schema.get("anyOf").and_then(Value::as_array);
    let some = choices.and_then(|choices| {
        choices.iter().find(|choice| choice.get("type").is_none_or(|name| name != "null"))
    });
    some.map_or(schema, |some| resolved(some, root))
}

/// The values of an enumeration with their schemas.
fn variants(schema: &Value) -> Vec<(String, &Value)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let one_of = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let documented = one_of.filter_map(|value| Some((text(value.get("const")?)?, value)));
    let plain = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    documented.chain(plain.filter_map(|value| Some((text(value)?, schema)))).collect()
}

#[track_caller]
fn described<'a>(schema: &'a Value, name: &str) -> &'a str {
    let text = schema.get("description").and_then(Value::as_str);
    text.unwrap_or_else(|| panic!("{name} has no doc comment"))
}

/// A doc comment in a cell.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
