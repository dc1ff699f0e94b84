//! The command reference in the documents, which comes from the arguments.

use clap::{Arg, ArgAction, Command};
use wasmsr_book::generated;

use crate::args;
use crate::exit::{MEANINGS, Meaning, Verbs};

#[test]
fn the_reference_is_current() {
    let mut command = args::command();
    command.build();
    let mut text = String::new();
    table("Options of every verb", command.get_arguments().filter(|arg| is_shown(arg)), &mut text);
    text += &format!("\n## Exit codes\n\n{}", exit_codes());
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        describe(verb, &mut text);
    }
    generated::hold("docs/commands.md", "commands", &text);
}

#[test]
fn the_exit_codes_are_current() {
    generated::hold("docs/running.md", "exit codes", &exit_codes());
}

#[test]
fn verbs_that_are_named_exist() {
    let verbs = args::verbs();
    let named = MEANINGS.iter().flat_map(|meaning| match meaning.verbs {
        Verbs::All => Vec::new(),
        Verbs::AllBut(one) => vec![one],
        Verbs::Only(verbs) => verbs.to_vec(),
    });
    for verb in named {
        assert!(verbs.iter().any(|other| other == verb), "no verb `{verb}` in {verbs:?}");
    }
}

fn exit_codes() -> String {
    let row = |Meaning { codes, verbs, text }: &Meaning| {
        format!("| {codes} | {verbs} | {} |\n", cell(text))
    };
    let rows: String = MEANINGS.iter().map(row).collect();
    format!("| code | of | meaning |\n|---|---|---|\n{rows}")
}

/// A verb's section, or those of the verbs below it.
fn describe(command: &Command, text: &mut String) {
    if command.has_subcommands() {
        let verbs = command.get_subcommands().filter(|verb| verb.get_name() != "help");
        return verbs.for_each(|verb| describe(verb, text));
    }
    let name = command.get_bin_name().unwrap_or_default();
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = one_line(usage.trim_start_matches("Usage: "));
    *text +=
        &format!("\n## `{name}`\n\n{}.\n\n```text\n{usage}\n```\n", about.trim_end_matches('.'));
    let own = |arg: &&Arg| is_shown(arg) && !arg.is_global_set();
    table("Arguments", command.get_positionals(), text);
    table("Options", command.get_arguments().filter(|arg| own(arg) && !arg.is_positional()), text);
}

fn is_shown(arg: &Arg) -> bool {
    let of_clap =
        matches!(arg.get_action(), ArgAction::Help | ArgAction::HelpShort | ArgAction::Version);
    !arg.is_hide_set() && !of_clap
}

fn table<'a>(title: &str, arguments: impl Iterator<Item = &'a Arg>, text: &mut String) {
    let rows: Vec<String> = arguments.map(row).collect();
    if !rows.is_empty() {
        *text += &format!("\n| {} | meaning |\n|---|---|\n{}", title.to_lowercase(), rows.concat());
    }
}

fn row(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default().iter();
    let values = names.map(|name| format!("<{name}>")).collect::<Vec<_>>().join(" ");
    let takes_values = arg.get_action().takes_values();
    let long = arg.get_long().map(|long| format!("--{long}"));
    let flags = arg.get_short().map(|short| format!("-{short}")).into_iter().chain(long);
    let flags = flags.collect::<Vec<_>>().join(", ");
    let shown = match (flags.is_empty(), takes_values) {
        (true, _) => values,
        (false, true) => format!("{flags} {values}"),
        (false, false) => flags,
    };
    let mut meaning = arg.get_help().map(|help| one_line(&help.to_string())).unwrap_or_default();
    let possible = arg.get_possible_values();
    let possible = possible.iter().filter(|_| takes_values).map(|value| {
        let help = value.get_help().map(|help| format!(": {}", in_a_sentence(&help.to_string())));
        format!("`{}`{}", value.get_name(), help.unwrap_or_default())
    });
    let possible = possible.collect::<Vec<_>>().join("; ");
    if !possible.is_empty() {
        meaning += &format!(" ({possible})");
    }
    let defaults = arg.get_default_values().iter().filter(|_| takes_values);
    let defaults = defaults.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(" ");
    if !defaults.is_empty() {
        meaning += &format!("; by default `{defaults}`");
    }
    format!("| `{}` | {} |\n", cell(&shown), cell(&meaning))
}

/// A bar ends a table's cell, in code too.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// A help text behind a colon: it begins with a small letter, unless its first
/// word is a name, such as KVM.
fn in_a_sentence(help: &str) -> String {
    let mut letters = help.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => help.to_owned(),
    }
}

#[test]
fn names_keep_their_letters() {
    assert_eq!(in_a_sentence("The guest got #GP"), "the guest got #GP");
    assert_eq!(in_a_sentence("KVM's own answer"), "KVM's own answer");
    assert_eq!(in_a_sentence("A look"), "a look");
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
