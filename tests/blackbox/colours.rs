//! Colours: on terminals, for those who like them, and nowhere else.

use std::process::Command;

use crate::fixture::{Outcome, Running, Skip, Terminal, Workdir, apply, test, wasmsr};

/// Commands that end with an error of clap's, of our own, or with the help.
const COLOURED: &[&[&str]] = &[&["chekc"], &["check", "missing.toml"], &["--help"]];

/// What a command leaves on a terminal where these variables are set.
fn on_screen(arguments: &[&str], variables: &[(&str, &str)]) -> Result<String, Skip> {
    let workdir = Workdir::new();
    let terminal = Terminal::start(&with(arguments, variables, &workdir))?;
    Ok(terminal.last_words())
}

fn with(arguments: &[&str], variables: &[(&str, &str)], workdir: &Workdir) -> Command {
    let mut command = wasmsr(arguments);
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
        command.env_remove(name);
    }
    command.env("TERM", "xterm").envs(variables.iter().copied()).current_dir(workdir.path());
    command
}

#[apply(test)]
fn on_a_terminal() -> Outcome {
    for arguments in COLOURED {
        let screen = on_screen(arguments, &[])?;
        assert!(screen.contains("\x1b["), "{arguments:?}: {screen}");
    }
    Ok(())
}

#[apply(test)]
fn none_where_they_are_refused() -> Outcome {
    for refusal in [("NO_COLOR", "1"), ("CLICOLOR", "0"), ("TERM", "dumb")] {
        for arguments in COLOURED {
            let screen = on_screen(arguments, &[refusal])?;
            assert!(!screen.is_empty() && !screen.contains('\x1b'), "{refusal:?}: {screen}");
        }
    }
    Ok(())
}

#[apply(test)]
fn none_in_a_pipe() -> Outcome {
    for arguments in COLOURED {
        let workdir = Workdir::new();
        let run = Running::start(&mut with(arguments, &[], &workdir)).finish();
        assert!(!run.stdout.contains('\x1b') && !run.stderr.contains('\x1b'), "{run}");
    }
    Ok(())
}

#[apply(test)]
fn in_a_pipe_that_asks_for_them() -> Outcome {
    for arguments in COLOURED {
        let workdir = Workdir::new();
        let mut command = with(arguments, &[("CLICOLOR_FORCE", "1")], &workdir);
        let run = Running::start(&mut command).finish();
        assert!(run.stdout.contains('\x1b') || run.stderr.contains('\x1b'), "{run}");
    }
    Ok(())
}
