//! Checks the commands that the documents name in running text: this `wasmsr` must
//! accept each of them.

use std::path::Path;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use wasmsr_book::pages;

use crate::args::Cli;

#[test]
fn commands_in_the_documents_are_taken() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let named = pages::code_in_lines(&root).expect("the pages can be read");
    let commands = named.iter().filter(|(_, code)| code.starts_with("wasmsr "));
    let (mut read, mut wrong) = (0, Vec::new());
    for (page, command) in commands {
        read += 1;
        if let Err(why) = take(command) {
            wrong.push(format!("{}: `{command}`: {why}", page.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(read > 50, "the documents name {read} commands: are they read?");
}

/// Reads a command as it is written for people: it may leave out required arguments,
/// and words in capitals stand for the reader's own values.
fn take(command: &str) -> Result<(), String> {
    let Err(error) = Cli::command().try_get_matches_from(command.split_whitespace()) else {
        return Ok(());
    };
    let stands_for_others = |kind| match error.get(kind) {
        Some(ContextValue::String(value)) => !value.contains(|c: char| c.is_ascii_lowercase()),
        _ => false,
    };
    let is_fine = match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand => true,
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            stands_for_others(ContextKind::InvalidValue)
        }
        ErrorKind::InvalidSubcommand => stands_for_others(ContextKind::InvalidSubcommand),
        _ => false,
    };
    if is_fine { Ok(()) } else { Err(error.to_string()) }
}

#[test]
fn what_is_wrong_is_found() {
    for command in ["wasmsr run --metrics ADDR", "wasmsr VERB --help", "wasmsr plugin test --bless"]
    {
        assert_eq!(take(command), Ok(()), "{command}");
    }
    for command in
        ["wasmsr rum", "wasmsr check --jsn", "wasmsr recording shw FILE", "wasmsr top -n x"]
    {
        assert!(take(command).is_err(), "{command}");
    }
}
