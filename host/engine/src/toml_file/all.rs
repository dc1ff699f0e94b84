//! All mistakes of a text instead of the first: what is wrong is taken out, and the rest
//! is read again.

use std::collections::BTreeSet;
use std::mem;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use super::{TomlError, nearest, place, with_suggestion};

/// Most mistakes that are told of one text.
const MOST: usize = 64;

/// Of larger texts only the first mistake is told: every further one costs a reading.
const LARGEST: usize = 1 << 20;

/// What was read of a text.
#[derive(Debug)]
pub struct Reading<T> {
    /// The value, without what is wrong in it; `None` if what is left is not a `T`.
    pub value: Option<T>,
    /// What is wrong, in the order of the text.
    pub mistakes: Vec<TomlError>,
    /// The keys at the top with a mistake somewhere below: what the value has of them may
    /// not be what was meant.
    pub touched: BTreeSet<String>,
    /// The same for elements of the arrays at the top, as far as they are still there: the
    /// keys that lead to the mistake, and the place of the element.
    pub(crate) elements: Vec<(Vec<String>, Range<usize>)>,
}

/// Reads `text` as a `T`, with all mistakes that do not follow from each other.
pub fn parse_all<T: DeserializeOwned>(text: &str) -> Reading<T> {
    let mut reading = Reading {
        value: None,
        mistakes: Vec::new(),
        touched: BTreeSet::new(),
        elements: Vec::new(),
    };
    let (mut table, broken) = DeTable::parse_recoverable(text);
    if !broken.is_empty() {
        reading.mistakes = broken_lines(text, &broken);
        return reading;
    }
    // Keys that were taken out of tables, and those that were meant: that they are missing
    // there now is no mistake of its own.
    let mut gone: Vec<Gone> = Vec::new();
    // A mistake may take one further reading, of the key that is missing instead.
    for _ in 0..2 * MOST {
        let error = match T::deserialize(Deserializer::from(table.clone())) {
            Ok(value) => {
                reading.value = Some(value);
                break;
            }
            Err(error) => error,
        };
        let message = error.message();
        let is_told = gone.iter().any(|gone| gone.explains(&error));
        if !is_told {
            let place = error.span().map(|span| place(text, span.start));
            reading.mistakes.push(TomlError { place, message: with_suggestion(message) });
        }
        if reading.mistakes.len() >= MOST || text.len() > LARGEST {
            break;
        }
        let Some(span) = error.span() else { break };
        let mut path = Vec::new();
        let within = table.span();
        let Some(taken) = take_out(table.get_mut(), within, span.start, &mut path) else { break };
        reading.touched.extend(path.first().cloned());
        reading.elements.extend(taken.element.clone().map(|element| (path, element)));
        let meant = nearest(message).map(|key| Gone { key: key.to_owned(), ..taken.clone() });
        gone.extend(meant.into_iter().chain([taken]));
    }
    let at = |error: &TomlError| error.place.map(|place| (place.line, place.column));
    reading.mistakes.sort_by_key(at);
    reading.mistakes.dedup();
    reading
}

/// Mistakes in the syntax, the first of each line: others may follow from it.
fn broken_lines(text: &str, broken: &[toml::de::Error]) -> Vec<TomlError> {
    let mut mistakes: Vec<TomlError> = Vec::new();
    // To find the line of a byte, the text before is read: once a line.
    let mut lines: Vec<Option<Range<usize>>> = Vec::new();
    for error in broken {
        let start = error.span().map(|span| span.start);
        let is_known = lines.iter().any(|line| match (line, start) {
            (Some(line), Some(start)) => line.contains(&start),
            (line, start) => line.is_none() && start.is_none(),
        });
        if is_known {
            continue;
        }
        if mistakes.len() >= MOST {
            break;
        }
        lines.push(start.map(|start| line_around(text, start)));
        let place = start.map(|start| place(text, start));
        mistakes.push(TomlError { place, message: with_suggestion(error.message()) });
    }
    mistakes
}

/// The line that has the byte at `at`, with its end.
fn line_around(text: &str, at: usize) -> Range<usize> {
    let bytes = text.as_bytes();
    let (before, after) = bytes.split_at(at.min(bytes.len()));
    let is_end = |byte: &u8| *byte == b'\n';
    let first = before.iter().rposition(is_end).map_or(0, |end| end + 1);
    let last = after.iter().position(is_end).map_or(bytes.len(), |end| before.len() + end);
    first..last + 1
}

/// A key that is no longer there.
#[derive(Debug, Clone)]
struct Gone {
    key: String,
    /// The table that had it.
    table: Range<usize>,
    /// The element of the outermost array that it was in.
    element: Option<Range<usize>>,
}

impl Gone {
    /// Whether the error is that this key is missing.
    fn explains(&self, error: &toml::de::Error) -> bool {
        let missing = error.message().strip_prefix("missing field `");
        missing.and_then(|rest| rest.strip_suffix('`')) == Some(&self.key)
            && error.span() == Some(self.table.clone())
    }
}

/// Takes the innermost key with its value out that the byte at `at` belongs to. `path` has
/// the keys that lead there.
fn take_out(
    table: &mut DeTable<'_>,
    within: Range<usize>,
    at: usize,
    path: &mut Vec<String>,
) -> Option<Gone> {
    let mut found = None;
    for (key, value) in table.iter_mut() {
        path.push(key.get_ref().to_string());
        let is_key = key.span().contains(&at);
        if !is_key && let Some(gone) = take_out_of(value, at, path) {
            return Some(gone);
        }
        if is_key || value.span().contains(&at) {
            found = path.last().cloned();
            break;
        }
        path.pop();
    }
    let key = found?;
    table.remove(key.as_str())?;
    Some(Gone { key, table: within, element: None })
}

/// The same within a value. An element of an array is taken out whole.
fn take_out_of(
    value: &mut Spanned<DeValue<'_>>,
    at: usize,
    path: &mut Vec<String>,
) -> Option<Gone> {
    let within = value.span();
    match value.get_mut() {
        DeValue::Table(table) => take_out(table, within, at, path),
        DeValue::Array(array) => {
            let elements = mem::replace(array, DeArray::new());
            let mut gone = None;
            for mut element in elements {
                if gone.is_none() {
                    gone = take_out_of(&mut element, at, path)
                        .map(|gone| Gone { element: Some(element.span()), ..gone });
                    if gone.is_none() && element.span().contains(&at) {
                        let (key, table) = (String::new(), within.clone());
                        gone = Some(Gone { key, table, element: None });
                        continue;
                    }
                }
                array.push(element);
            }
            gone
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[serde(default)]
        vm: Vm,
        #[serde(default)]
        plugin: Vec<Plugin>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Vm {
        memory: u32,
        vcpus: u32,
        list: Vec<u32>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Plugin {
        path: String,
        fuel: Option<u64>,
    }

    #[track_caller]
    fn check(text: &str, expected: &[(usize, &str)], touched: &[&str]) -> Option<File> {
        let reading = parse_all::<File>(text);
        let got: Vec<(usize, String)> = reading
            .mistakes
            .iter()
            .map(|mistake| (mistake.place.unwrap().line, mistake.message.clone()))
            .collect();
        assert_eq!(got.len(), expected.len(), "{got:?}");
        for ((line, message), (at, part)) in got.iter().zip(expected) {
            assert!(line == at && message.contains(part), "no `{part}` at {at}: {got:?}");
        }
        assert_eq!(reading.touched.iter().collect::<Vec<_>>(), touched);
        reading.value
    }

    #[test]
    fn a_text_without_mistakes_is_read_at_once() {
        let file = check("[vm]\nmemory = 1\n[[plugin]]\npath = \"p\"\n", &[], &[]).unwrap();
        assert_eq!((file.vm.memory, file.plugin.len()), (1, 1));
    }

    #[test]
    fn every_mistake_is_found_with_its_place() {
        let file = check(
            "[vm]\nmemroy = 1\nvcpus = \"two\"\nlist = [1, \"x\", 3, true]\n\
             [[plugin]]\npath = 5\n[[plugin]]\npath = \"q\"\nfuel = -1\n[[plugni]]\na = 1\n",
            &[
                (2, "did you mean `memory`?"),
                (3, "invalid type: string \"two\""),
                (4, "invalid type: string \"x\""),
                (4, "invalid type: boolean `true`"),
                (6, "expected a string"),
                (9, "invalid value: integer `-1`"),
                (10, "did you mean `plugin`?"),
            ],
            &["plugin", "plugni", "vm"],
        );
        let file = file.unwrap();
        assert_eq!(file.vm.list, [1, 3]);
        assert_eq!(file.plugin, [Plugin { path: "q".to_owned(), fuel: None }]);
    }

    #[test]
    fn a_key_that_is_missing_because_it_is_misspelt_is_told_once() {
        check("[[plugin]]\npaht = \"p\"\n", &[(2, "did you mean `path`?")], &["plugin"]);
        check("[[plugin]]\nfuel = 1\n", &[(1, "missing field `path`")], &["plugin"]);
        check(
            "plugin = [\n{ path = 1 },\n{ },\n]\n",
            &[(2, "a string"), (3, "missing")],
            &["plugin"],
        );
    }

    #[test]
    fn broken_lines_are_told_one_by_one() {
        let reading = parse_all::<File>("[vm]\nmemory 1\n[[plugin]]\npath = p\nfuel = 1\n");
        assert!(reading.value.is_none());
        let lines: Vec<_> = reading.mistakes.iter().map(|m| m.place.unwrap().line).collect();
        assert!(lines.starts_with(&[2]) && lines.is_sorted_by(|a, b| a < b), "{lines:?}");
    }

    #[test]
    fn mistakes_without_end_are_bounded() {
        let text: String = (0..1000).map(|n| format!("key{n} = 1\n")).collect();
        assert_eq!(parse_all::<File>(&text).mistakes.len(), MOST);
    }

    /// A log in place of a profile, and its like in one line.
    #[test]
    fn a_large_text_that_is_none_is_refused() {
        let log: String = (0..40_000).map(|n| format!("[ {n}.5] kernel: a line: {n}\n")).collect();
        let reading = parse_all::<File>(&log);
        let lines: Vec<_> = reading.mistakes.iter().map(|m| m.place.unwrap().line).collect();
        assert_eq!(lines, (1..=MOST).collect::<Vec<_>>());
        assert_eq!(parse_all::<File>(&"a b = ".repeat(100_000)).mistakes.len(), 1);
        let unknown: String = (0..40_000).map(|n| format!("key{n} = 1\n")).collect();
        assert_eq!(parse_all::<File>(&unknown).mistakes.len(), MOST);
    }
}
