//! `wasmsr completions`: the completion script for a shell.

use clap::{Arg, Command};
use clap_complete::Shell;

use crate::args;
use crate::exit::{Code, Failure};
use crate::terminal::console::print;

/// Prints the script.
pub(crate) fn completions(args: &args::Completions) -> Result<Code, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::command(), "wasmsr", &mut script);
    let script = String::from_utf8_lossy(&script);
    let script = match args.shell {
        Shell::Bash => for_bash(&script, &args::command()),
        _ => script.into_owned(),
    };
    print(&script).map_err(Failure::host)?;
    Ok(Code::SUCCESS)
}

/// Corrects clap's script for bash: it offers options where a file is meant, which
/// keeps bash from offering files, and it does not complete lists of values.
fn for_bash(script: &str, command: &Command) -> String {
    let mut lists = Vec::new();
    options_with_lists(command, &mut lists);
    let script = script.replace("complete -F _wasmsr ", "complete -F _wasmsr_words ");
    WORDS.replace("LISTS", &lists.join("|")) + &script
}

/// The options that take a list of known values, with commas between them.
fn options_with_lists(command: &Command, found: &mut Vec<String>) {
    let is_list =
        |arg: &&Arg| arg.get_value_delimiter().is_some() && !arg.get_possible_values().is_empty();
    for option in command.get_opts().filter(is_list).filter_map(Arg::get_long) {
        let option = format!("--{option}");
        if !found.contains(&option) {
            found.push(option);
        }
    }
    command.get_subcommands().for_each(|verb| options_with_lists(verb, found));
}

const WORDS: &str = r#"_wasmsr_words() {
    # The part of a list before the last comma is complete.
    local list="" word words=()
    case "$3" in
        LISTS)
            [[ "$2" == *,* ]] && list="${2%,*},"
            ;;
    esac
    _wasmsr "$1" "${2#"$list"}" "$3"
    # A word without a dash at its begin is not an option. If no completion is left,
    # bash offers files.
    for word in "${COMPREPLY[@]}"; do
        if [[ "$word" != -* || "$2" == -* ]]; then
            words+=("$list$word")
        fi
    done
    COMPREPLY=("${words[@]}")
}

"#;

#[cfg(test)]
mod tests {
    use clap::ValueHint;

    use super::*;

    fn check(command: &Command) {
        for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
            let is_known =
                arg.get_value_hint() != ValueHint::Unknown || !arg.get_possible_values().is_empty();
            assert!(is_known, "what is `{}` of `{}`?", arg.get_id(), command.get_name());
        }
        command.get_subcommands().for_each(check);
    }

    #[test]
    fn shells_know_what_each_argument_is() {
        check(&args::command());
    }
}
