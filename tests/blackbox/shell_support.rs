//! What shells and `man` get of the command.

use std::process::Command;

use libtest_mimic::Trial;

use crate::fixture::{Outcome, Run, Running, Skip, Workdir, cannot_run_here, trials};

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        bash_completes_verbs_and_options,
        every_shell_has_a_script,
        an_unknown_shell,
        a_page_for_every_verb,
        pages_render_without_a_warning,
        a_folder_that_cannot_be_made,
    ]
}

/// Has bash complete the words of a line, the last of which is begun.
fn completed(words: &[&str]) -> Result<Run, Skip> {
    let workdir = Workdir::new();
    workdir.put("completions", wasmsr_prints(&workdir, &["completions", "bash"]));
    let [.., before, current] = words else { panic!("a command and the word to complete") };
    let last = words.len() - 1;
    let script = format!(
        "source completions; declare -F _wasmsr >/dev/null || exit 3\n\
         COMP_WORDS=({}); COMP_CWORD={last}; _wasmsr wasmsr '{current}' '{before}'\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ")
    );
    if !is_there("bash") {
        return cannot_run_here("no bash");
    }
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", &script]).current_dir(workdir.path());
    Ok(Running::start(&mut bash).finish())
}

fn wasmsr_prints(workdir: &Workdir, arguments: &[&str]) -> String {
    workdir.wasmsr(arguments).exited(0).stdout
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

fn bash_completes_verbs_and_options() -> Outcome {
    for (words, expected) in [
        (&["wasmsr", "che"][..], "check"),
        (&["wasmsr", "plugin", "insp"], "inspect"),
        (&["wasmsr", "run", "--max"], "--max-boots"),
        (&["wasmsr", "completions", "fi"], "fish"),
    ] {
        let run = completed(words)?.exited(0);
        assert_eq!(run.stdout.trim(), expected, "{words:?}:\n{run}");
    }
    Ok(())
}

fn every_shell_has_a_script() -> Outcome {
    let workdir = Workdir::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = wasmsr_prints(&workdir, &["completions", shell]);
        assert!(script.contains("inspect"), "{shell}: {script}");
    }
    Ok(())
}

fn an_unknown_shell() -> Outcome {
    Workdir::new().wasmsr(&["completions", "command.com"]).refused(&["command.com", "bash"]);
    Ok(())
}

fn a_page_for_every_verb() -> Outcome {
    let workdir = Workdir::new();
    assert_eq!(wasmsr_prints(&workdir, &["man", "--out", "pages"]), "");
    let pages = workdir.path().join("pages");
    for page in ["wasmsr.1", "wasmsr-run.1", "wasmsr-plugin-inspect.1"] {
        assert!(pages.join(page).is_file(), "no {page}");
    }
    let page = wasmsr_prints(&workdir, &["man"]);
    assert!(page.contains("Exit codes") && page.contains("wasmsr\\-check(1)"), "{page}");
    Ok(())
}

fn pages_render_without_a_warning() -> Outcome {
    if !is_there("groff") {
        return cannot_run_here("no groff");
    }
    let workdir = Workdir::new();
    wasmsr_prints(&workdir, &["man", "--out", "pages"]);
    let mut groff = Command::new("sh");
    groff.args(["-c", "groff -K utf8 -man -Tutf8 -ww -z pages/*.1"]).current_dir(workdir.path());
    let run = Running::start(&mut groff).finish().exited(0);
    assert_eq!(run.stderr, "", "{run}");
    Ok(())
}

fn a_folder_that_cannot_be_made() -> Outcome {
    let run = Workdir::new().wasmsr(&["man", "--out", "/dev/null/pages"]);
    run.refused(&["/dev/null/pages", "Not a directory"]);
    Ok(())
}
