//! `wasmsr completions`: what a shell needs to complete the command.

use clap::{Arg, Command};
use clap_complete::Shell;

use crate::args;
use crate::exit::{Code, Failure};
use crate::terminal::console::print;

/// Prints the script for a shell.
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

/// clap's script for bash offers options where a file is meant, which keeps bash
/// from offering files, and knows no lists of values.
fn for_bash(script: &str, command: &Command) -> String {
    let mut lists = Vec::new();
    options_with_lists(command, &mut lists);
    let script = script.replace("complete -F _wasmsr ", "complete -F _wasmsr_words ");
    WORDS.replace("LISTS", &lists.join("|")) + &script
}

/// Options whose values are known, and stand between commas.
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
    # What stands before the last comma of a list is complete.
    local list="" word words=()
    case "$3" in
        LISTS)
            [[ "$2" == *,* ]] && list="${2%,*},"
            ;;
    esac
    _wasmsr "$1" "${2#"$list"}" "$3"
    # A word that begins with no dash is no option. Where nothing else is left,
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
