//! What shells and `man` get of the command.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::fixture::{
    Outcome, Run, Running, Skip, Terminal, Workdir, apply, cannot_run_here, test,
};

/// Has bash complete the words of a line, the last of which is begun.
fn completed(words: &[&str]) -> Result<Run, Skip> {
    let workdir = Workdir::new();
    workdir.put("completions", wasmsr_prints(&workdir, &["completions", "bash"]));
    let [.., before, current] = words else { panic!("a command and the word to complete") };
    let last = words.len() - 1;
    let script = format!(
        "source completions; declare -F _wasmsr_words >/dev/null || exit 3\n\
         COMP_WORDS=({}); COMP_CWORD={last}; _wasmsr_words wasmsr '{current}' '{before}'\n\
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

#[apply(test)]
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

/// What a person sees who types in a shell and presses the tabulator. The folder
/// has one file, `machine.toml`.
#[apply(test)]
fn bash_completes_files_and_lists() -> Outcome {
    if !is_there("bash") {
        return cannot_run_here("no bash");
    }
    let (workdir, scripts) = (Workdir::new(), Workdir::new());
    workdir.put("machine.toml", "");
    scripts.put("completions", wasmsr_prints(&scripts, &["completions", "bash"]));
    let mut bash = Command::new("bash");
    bash.args(["--noprofile", "--norc", "-i"]).current_dir(workdir.path());
    bash.env("PS1", "ready> ").env("TERM", "xterm").env("INPUTRC", "/dev/null");
    bash.env("HISTFILE", "/dev/null");
    let mut terminal = Terminal::start(&bash)?;
    terminal.shows(|screen| screen.contains("ready>"));
    let script = scripts.path().join("completions");
    terminal.type_in(&format!("source {}; echo load''ed\n", script.display()));
    terminal.shows(|screen| screen.contains("loaded"));
    for (typed, completed) in [
        ("run ", "run machine.toml"),
        ("run m", "run machine.toml"),
        ("-v check ", "-v check machine.toml"),
        ("recording stats --msr 10a ", "--msr 10a machine.toml"),
        ("run --record ", "--record machine.toml"),
        ("plugin test --add m", "--add machine.toml"),
        ("recording show --outcome k", "--outcome kernel"),
        ("recording show --outcome fault,k", "--outcome fault,kernel"),
        ("plugin ins", "plugin inspect"),
    ] {
        terminal.type_in(&format!("wasmsr {typed}\t"));
        terminal.shows(|screen| screen.contains(completed));
        // The line, and then the screen, are emptied.
        terminal.type_in("\x15\x0c");
        terminal.shows(|screen| !screen.contains(completed));
    }
    terminal.type_in("exit\n");
    assert_eq!(terminal.finish(), Some(0));
    Ok(())
}

/// Has a shell read its script, and do nothing.
fn takes_its_script(shell: &str, no_execution: &str) -> Outcome {
    if !is_there(shell) {
        return cannot_run_here(format!("no {shell}"));
    }
    let workdir = Workdir::new();
    workdir.put("completions", wasmsr_prints(&workdir, &["completions", shell]));
    let mut command = Command::new(shell);
    command.args([no_execution, "completions"]).current_dir(workdir.path());
    let run = Running::start(&mut command).finish().exited(0);
    assert_eq!(run.stderr, "", "{run}");
    Ok(())
}

#[apply(test)]
fn zsh_takes_its_script() -> Outcome {
    takes_its_script("zsh", "-n")
}

#[apply(test)]
fn fish_takes_its_script() -> Outcome {
    takes_its_script("fish", "--no-execute")
}

#[apply(test)]
fn every_shell_has_a_script() -> Outcome {
    let workdir = Workdir::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = wasmsr_prints(&workdir, &["completions", shell]);
        assert!(script.contains("inspect"), "{shell}: {script}");
    }
    Ok(())
}

#[apply(test)]
fn an_unknown_shell() -> Outcome {
    Workdir::new().wasmsr(&["completions", "command.com"]).refused(&["command.com", "bash"]);
    Ok(())
}

#[apply(test)]
fn a_page_for_every_verb() -> Outcome {
    let workdir = Workdir::new();
    assert_eq!(wasmsr_prints(&workdir, &["man", "--out", "pages"]), "");
    let folder = workdir.path().join("pages");
    // From page to page, as a reader goes.
    let mut pages = BTreeSet::from(["wasmsr".to_owned()]);
    let mut unread = vec!["wasmsr".to_owned()];
    while let Some(name) = unread.pop() {
        let page = fs::read_to_string(folder.join(format!("{name}.1")))
            .unwrap_or_else(|error| panic!("{name}.1: {error}"));
        let title = page.lines().find(|line| line.starts_with(".TH ")).unwrap_or_default();
        assert!(title.starts_with(&format!(".TH {name} 1 ")), "{name}: {title}");
        assert!(title.contains("\"wasmsr 0.1.0\""), "{name}: {title}");
        assert!(page.contains(".SH \"EXIT STATUS\""), "{name}: {page}");
        let plain = page.replace("\\-", "-");
        let words = plain.split_whitespace();
        for below in words.filter_map(|word| word.strip_suffix("(1)")) {
            if pages.insert(below.to_owned()) {
                unread.push(below.to_owned());
            }
        }
    }
    let files = fs::read_dir(&folder).expect("it is there").map(|file| {
        let name = file.expect("it can be read").file_name().into_string().expect("plain names");
        name.trim_end_matches(".1").to_owned()
    });
    assert_eq!(files.collect::<BTreeSet<_>>(), pages, "pages that no page leads to");
    assert!(pages.contains("wasmsr-plugin-inspect") && pages.contains("wasmsr-run"), "{pages:?}");
    Ok(())
}

#[apply(test)]
fn every_verb_says_its_exit_codes() -> Outcome {
    let workdir = Workdir::new();
    for (verb, codes) in [
        (&["run"][..], &["odd", "0", "2", "4", "10", "16", "128 + n"][..]),
        (&["recording", "diff"], &["0", "1", "2"]),
        (&["plugin", "bench"], &["0", "1", "2"]),
        (&["doctor"], &["0", "2", "12"]),
    ] {
        let help = wasmsr_prints(&workdir, &[verb, &["--help"]].concat());
        let (_, told) = help.split_once("Exit codes:").expect("there is a list");
        for code in codes {
            let is_told = told.lines().any(|line| line.trim_start().starts_with(code));
            assert!(is_told, "{verb:?} {code}: {help}");
        }
    }
    Ok(())
}

#[apply(test)]
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

#[apply(test)]
fn a_folder_that_cannot_be_made() -> Outcome {
    let run = Workdir::new().wasmsr(&["man", "--out", "/dev/null/pages"]);
    run.refused(&["/dev/null/pages", "Not a directory"]);
    Ok(())
}
