//! The references of profile and manifest in the documents, which come from
//! the types that serde reads: keys and their order from serde, types, defaults
//! and meanings from the schema that schemars makes of the doc comments.

use std::marker::PhantomData;

use bytesize::ByteSize;
use schemars::{JsonSchema, Schema, schema_for};
use serde::de::{self, DeserializeOwned, Visitor};
use serde_json::Value;
use wasmsr_book::generated;

/// The tables of one page, about the file that is read as an `F`.
pub(crate) struct Reference<F> {
    page: &'static str,
    file: PhantomData<F>,
}

impl<F: JsonSchema> Reference<F> {
    pub(crate) fn of(page: &'static str) -> Self {
        Reference { page, file: PhantomData }
    }

    /// The keys of a table: type, default, meaning.
    #[track_caller]
    pub(crate) fn table<T: JsonSchema + DeserializeOwned>(&self, name: &str) {
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

    /// What an enumeration may say, and what it means.
    #[track_caller]
    pub(crate) fn values<T: JsonSchema>(&self, name: &str) {
        let schema = schema_for!(T);
        let mut text = "| value | meaning |\n|---|---|\n".to_owned();
        for (value, schema) in variants(schema.as_value()) {
            text += &format!("| `\"{value}\"` | {} |\n", one_line(described(schema, &value)));
        }
        generated::hold(self.page, name, &text);
    }

    /// The file's JSON schema, for editors.
    #[track_caller]
    pub(crate) fn schema(&self, file: &str) {
        let schema = serde_json::to_string_pretty(&schema_for!(F)).expect("a schema is JSON");
        generated::hold_file(file, &format!("{schema}\n"));
    }
}

/// Types of keys that are more than what JSON calls them.
pub(crate) mod kind {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    macro_rules! kinds {
        ($($(#[$doc:meta])* $name:ident is $schema:tt)*) => {$(
            $(#[$doc])*
            pub(crate) struct $name;

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
        /// Anything that TOML has.
        Table is { "type": "object" }
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
        "integer" => "number",
        "boolean" => "true, false",
        "array" => "list",
        "object" => "table",
        other => panic!("no word for the type {other}"),
    });
    words.collect::<Vec<_>>().join(" or ")
}

/// What holds where a key is not written.
fn default_of(property: &Value, root: &Schema) -> String {
    let schema = resolved(property, root);
    let is = |key: &str, value: &str| schema.get(key).is_some_and(|found| found == value);
    match property.get("default") {
        _ if is("type", "array") => "`[]`".to_owned(),
        _ if is("type", "object") => "`{}`".to_owned(),
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::String(size)) if is("title", "size") => {
            let bytes: ByteSize = size.parse().expect("a size is shown as it is read");
            format!("`\"{}\"`", bytes.to_string().replace(".0 ", ""))
        }
        Some(value) => format!("`{value}`"),
    }
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
