//! A plugin's configuration: TOML in the profile, JSON for the plugin.

use std::fmt;

use serde::de::{self, MapAccess, SeqAccess};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

/// A table as JSON. What JSON cannot say is a mistake at its place.
#[derive(Debug, Default)]
pub(super) struct Config(Map<String, Value>);

impl Config {
    /// The text that the plugin reads.
    pub(super) fn text(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Json::deserialize(deserializer)?.0 {
            Value::Object(table) => Ok(Config(table)),
            _ => Err(de::Error::custom("a plugin's configuration is a table")),
        }
    }
}

/// One value of it.
struct Json(Value);

/// The key under which toml hands out a date (`toml_datetime`).
const DATE: &str = "$__toml_private_datetime";

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value that JSON can say")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
                Ok(Json(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
                Ok(Json(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
                Ok(Json(value.into()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Json, E> {
                let number = Number::from_f64(value).map(Value::Number);
                number.map(Json).ok_or_else(|| {
                    E::custom(format_args!(
                        "{value} has no form in JSON, as which plugins read their configuration; \
                         write a number, or a text"
                    ))
                })
            }

            fn visit_str<E>(self, value: &str) -> Result<Json, E> {
                Ok(Json(value.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
                let mut values = Vec::new();
                while let Some(Json(value)) = list.next_element()? {
                    values.push(value);
                }
                Ok(Json(Value::Array(values)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Json, A::Error> {
                let mut values = Map::new();
                while let Some(key) = table.next_key::<String>()? {
                    if key == DATE {
                        let date: String = table.next_value()?;
                        return Err(de::Error::custom(format_args!(
                            "the date or time {date} has no form in JSON, as which plugins read \
                             their configuration; write it as a text, \"{date}\""
                        )));
                    }
                    let Json(value) = table.next_value()?;
                    values.insert(key, value);
                }
                Ok(Json(Value::Object(values)))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::path::Path;

    use crate::profile::{Profile, ProfileError};

    fn parse(config: &str) -> Result<String, ProfileError> {
        let text = format!("[[plugin]]\npath = \"p\"\n{config}\n");
        let profile = Profile::parse(Path::new("vm.toml"), &text)?;
        Ok(profile.plugins[0].config.clone())
    }

    #[test]
    fn what_json_can_say_is_handed_on() {
        let config = "config = { b = [1, -2, 1.5, [true]], a = { x = \"2026-11-30\" }, c = {} }";
        assert_eq!(
            parse(config).unwrap(),
            r#"{"a":{"x":"2026-11-30"},"b":[1,-2,1.5,[true]],"c":{}}"#
        );
        assert_eq!(parse("config = {}").unwrap(), "{}");
    }

    #[test]
    fn a_plugin_is_not_asked_about_what_is_left() {
        for config in [
            "config = { msrs = [{ range = 0x10a, value = nan }] }",
            "config.since = 2026-11-30",
            "config = { a = [1, 07:32:00], b = inf }",
            "[plugin.config]\nx = inf",
        ] {
            let text = format!(
                "[[plugin]]\npath = \"a\"\nconfig.x = 1\n[[plugin]]\npath = \"p\"\n{config}\n\
                 [[plugin]]\npath = \"b\"\n[[plugin]]\npath = \"s\"\nshadow-of = \"p\"\n"
            );
            let (profile, mistakes) = Profile::parse_all(Path::new("vm.toml"), &text);
            assert!(!mistakes.is_empty(), "{config}");
            let paths: Vec<_> = profile.unwrap().plugins.into_iter().map(|p| p.path).collect();
            assert_eq!(paths, [Path::new("a"), Path::new("b")], "{config}");
        }
        let other = "[[plugin]]\npath = \"p\"\nfuel = \"x\"\nconfig.x = 1\n";
        let profile = Profile::parse_all(Path::new("vm.toml"), other).0.unwrap();
        assert_eq!(profile.plugins.len(), 1, "its configuration is whole");
    }

    #[test]
    fn what_json_cannot_say_is_a_mistake_at_its_place() {
        for (config, place, part) in [
            ("config.since = 2026-11-30", "line 3, column 16", "2026-11-30"),
            ("config = { a = [1, 07:32:00] }", "line 3, column 20", "07:32:00"),
            ("config.a.b = 1979-05-27T07:32:00Z", "line 3, column 14", "as a text"),
            ("config.value = nan", "line 3, column 16", "NaN"),
            ("config.list = [0,\n-inf]", "line 4, column 1", "-inf"),
            ("[plugin.config]\nx = inf", "line 4, column 5", "no form in JSON"),
        ] {
            let error = parse(config).unwrap_err();
            let error = error.source().map(ToString::to_string).unwrap_or_default();
            assert!(error.contains(place) && error.contains(part), "{config}: {error}");
        }
    }
}
