//! What the user asked of `cargo xtask nested`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

pub(crate) const HELP: &str = "\
Options of `nested`:
  --cpus N                CPUs of the software host (default 1; they take turns)
  --memory MIB            its memory (default 5120)
  --timeout SECONDS       when to give up (default 1800)
  --file OUTSIDE[:INSIDE] a file or folder to take along, by default to the
                          same path; programs bring their libraries
`wasmsr`, the plugins and examples/ are always there. Commands run in the
workspace's folder with `wasmsr` and busybox on PATH.
";

/// Of the software host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(super) cpus: u32,
    pub(super) memory_mib: u32,
    pub(super) timeout: Duration,
    pub(super) files: Vec<File>,
}

/// A file to take along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) outside: PathBuf,
    pub(super) inside: PathBuf,
}

/// What to do inside.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// Run a command.
    Run(Vec<String>),
    /// Run the black-box tests, with arguments for their harness.
    Test(Vec<String>),
}

impl Default for Options {
    fn default() -> Self {
        Self { cpus: 1, memory_mib: 5120, timeout: Duration::from_secs(30 * 60), files: Vec::new() }
    }
}

/// Options come before the verb; all that follows it belongs to it.
pub(super) fn parse(arguments: &[String]) -> Result<(Options, Verb)> {
    let mut options = Options::default();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--cpus" => options.cpus = number(word, words.next())?,
            "--memory" => options.memory_mib = number(word, words.next())?,
            "--timeout" => {
                options.timeout = Duration::from_secs(number(word, words.next())?.into());
            }
            "--file" => options.files.push(file(words.next())?),
            "--" => {}
            "run" => {
                let command: Vec<_> = words.cloned().collect();
                ensure!(!command.is_empty(), "`nested run` needs a command");
                return Ok((options, Verb::Run(command)));
            }
            "test" => return Ok((options, Verb::Test(words.cloned().collect()))),
            _ => bail!("`nested` has no option `{word}`\n\n{HELP}"),
        }
    }
    bail!("`nested` needs `run COMMAND...` or `test`\n\n{HELP}")
}

fn number(option: &str, value: Option<&String>) -> Result<u32> {
    let value = value.with_context(|| format!("{option} needs a number"))?;
    let number = value.parse().ok().filter(|number| *number > 0);
    number.with_context(|| format!("{option}: `{value}` is not a number above 0"))
}

fn file(value: Option<&String>) -> Result<File> {
    let value = value.context("--file needs a path")?;
    let (outside, inside) = match value.split_once(':') {
        Some((outside, inside)) => (outside, Some(inside)),
        None => (value.as_str(), None),
    };
    let outside = Path::new(outside).canonicalize().with_context(|| format!("--file {outside}"))?;
    let inside = inside.map_or_else(|| outside.clone(), PathBuf::from);
    ensure!(inside.is_absolute(), "--file {value}: the path inside must be absolute");
    Ok(File { outside, inside })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<(Options, Verb)> {
        parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_end_at_the_verb() {
        let (options, verb) = parsed("--cpus 4 --file /dev/null:/x -- run ls --cpus 1").unwrap();
        assert_eq!(options.cpus, 4);
        assert_eq!(options.files, [File { outside: "/dev/null".into(), inside: "/x".into() }]);
        assert_eq!(verb, Verb::Run(["ls", "--cpus", "1"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, error) in [
            ("--cpus none run ls", "--cpus: `none` is not a number above 0"),
            ("run", "`nested run` needs a command"),
            ("--file /dev/null:x run ls", "--file /dev/null:x: the path inside must be absolute"),
        ] {
            assert_eq!(parsed(line).unwrap_err().to_string(), error);
        }
    }
}
