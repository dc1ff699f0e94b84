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
        summary: "build everything and run examples/hello/vm.toml",
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
        summary: "everything that CI runs: format, lints, documentation, architecture, tests",
        run: prepush::run,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, arguments)) = arguments.split_first() else {
        eprint!("{}", help());
        return ExitCode::from(COULD_NOT);
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print!("{}", help());
        return ExitCode::SUCCESS;
    }
    let Some(chore) = CHORES.iter().find(|chore| chore.name == name) else {
        eprint!("error: no chore is named `{name}`\n\n{}", help());
        return ExitCode::from(COULD_NOT);
    };
    (chore.run)(arguments).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(COULD_NOT)
    })
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
