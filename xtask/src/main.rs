//! The project's own chores: `cargo xtask CHORE`.

use std::process::ExitCode;

mod apt;
mod architecture;
mod bench;
mod book;
mod demo;
mod languages;
mod nested;
mod plugins;
mod prepush;
mod process;
mod tally;
mod test;
mod workspace;

/// Exit code of a chore that could not do its work, as for `wasmsr`.
const COULD_NOT: u8 = 2;

struct Chore {
    name: &'static str,
    arguments: &'static str,
    summary: &'static str,
    run: fn(&[String]) -> anyhow::Result<ExitCode>,
}

const CHORES: &[Chore] = &[
    Chore {
        name: "plugins",
        arguments: "",
        summary: "build every plugin to target/plugins/NAME.wasm",
        run: plugins::run,
    },
    Chore {
        name: "demo",
        arguments: "[--nested]",
        summary: "build the command, build the plugins of examples/hello/vm.toml, and run it",
        run: demo::run,
    },
    Chore {
        name: "test",
        arguments: "[--no-nested]",
        summary: "run every test, those that boot Linux in the nested host",
        run: test::run,
    },
    Chore {
        name: "nested",
        arguments: "[OPTION...] run COMMAND... | test [ARGUMENT...]",
        summary: "run a command, or the black-box tests, in a software host that has KVM",
        run: nested::run,
    },
    Chore {
        name: "bench",
        arguments: "[--nested] [--json] [NAME...]",
        summary: "measure how fast wasmsr is, each figure against a reference",
        run: bench::run,
    },
    Chore {
        name: "book",
        arguments: "[--bless]",
        summary: "make target/book/html of the documents; with the flag, first what comes from code",
        run: book::run,
    },
    Chore {
        name: "prepush",
        arguments: "",
        summary: "everything that CI runs: format, architecture, plugins, lints, documentation, book, tests",
        run: prepush::run,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, arguments)) = arguments.split_first() else {
        eprint!("{}", help());
        return ExitCode::from(COULD_NOT);
    };
    let (name, arguments, wants_help) = match (name.as_str(), arguments) {
        ("help" | "--help" | "-h", [name, rest @ ..]) => (name, rest, true),
        ("help" | "--help" | "-h", []) => {
            print!("{}", help());
            return ExitCode::SUCCESS;
        }
        _ => (name, arguments, asks_for_help(name, arguments)),
    };
    let Some(chore) = CHORES.iter().find(|chore| chore.name == name) else {
        eprint!("error: no chore is named `{name}`\n\n{}", help());
        return ExitCode::from(COULD_NOT);
    };
    if wants_help {
        print!("{}", help_of(chore));
        return ExitCode::SUCCESS;
    }
    (chore.run)(arguments).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(COULD_NOT)
    })
}

/// Whether help is asked for. What follows the command of `nested run` is that
/// command's own.
fn asks_for_help(chore: &str, arguments: &[String]) -> bool {
    let is_run = |word: &String| chore == "nested" && word == "run";
    let own = match arguments.iter().position(is_run) {
        Some(run) => arguments.get(..run + 2).unwrap_or(arguments),
        None => arguments,
    };
    own.iter().any(|word| matches!(word.as_str(), "--help" | "-h"))
}

fn help_of(Chore { name, arguments, summary, .. }: &Chore) -> String {
    let options = match *name {
        "nested" => format!("\n{}", nested::HELP),
        _ => String::new(),
    };
    format!("cargo xtask {name} {arguments}\n    {summary}\n{options}")
}

fn help() -> String {
    let chores: String = CHORES
        .iter()
        .map(|Chore { name, arguments, summary, .. }| {
            format!("  {name} {arguments}\n      {summary}\n")
        })
        .collect();
    format!("The project's own chores, `cargo xtask CHORE`:\n\n{chores}\n{}", nested::HELP)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use wasmsr_book::pages;

    use super::*;

    fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
    }

    /// Whether a chore of this name has these options; a word in capitals stands
    /// for any.
    fn is_taken(command: &str) -> bool {
        let mut words = command.split_whitespace().skip(2);
        let Some(name) = words.next().filter(|name| *name != "CHORE") else { return true };
        let Some(chore) = CHORES.iter().find(|chore| chore.name == name) else { return false };
        // Of `nested`, whose own options are in its help.
        let known = format!("{} {}", chore.arguments, nested::HELP);
        words.filter(|word| word.starts_with('-')).all(|option| known.contains(option))
    }

    #[test]
    fn help_is_given_before_anything_is_done() {
        let asks = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            asks_for_help(&words[0], &words[1..])
        };
        for line in ["nested --help", "nested -h", "nested run --help", "nested test --help"] {
            assert!(asks(line), "{line}");
        }
        for line in ["nested --cpus 2 run -h", "bench --nested --help", "prepush -h"] {
            assert!(asks(line), "{line}");
        }
        for line in ["nested run wasmsr --help", "nested run ls -h", "test --no-nested"] {
            assert!(!asks(line), "{line}");
        }
        for chore in CHORES {
            assert!(help_of(chore).starts_with(&format!("cargo xtask {} ", chore.name)));
        }
    }

    #[test]
    fn chores_in_the_documents_are_there() {
        let named = pages::code_in_lines(root()).unwrap();
        let chores = named.iter().filter(|(_, code)| code.starts_with("cargo xtask"));
        let mut read = 0;
        for (page, command) in chores {
            read += 1;
            assert!(is_taken(command), "{}: `{command}`", page.display());
        }
        assert!(read > 20, "the documents name {read} chores: are they read?");
        assert!(!is_taken("cargo xtask tset") && !is_taken("cargo xtask test --nosted"));
    }

    #[test]
    fn every_chore_is_in_the_table_for_contributors() {
        let text = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
        for Chore { name, .. } in CHORES {
            assert!(text.contains(&format!("| `cargo xtask {name}")), "{name}");
        }
    }

    #[test]
    fn what_prepush_does_is_told() {
        let texts = [help(), fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap()];
        for step in prepush::steps() {
            let word = step.split(' ').next().unwrap();
            for text in &texts {
                let line = text.lines().find(|line| line.contains("CI runs: "));
                assert!(line.is_some_and(|line| line.contains(word)), "{step}");
            }
        }
    }
}
