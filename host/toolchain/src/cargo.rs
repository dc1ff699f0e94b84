//! cargo as a command to run.

use std::process::Command;

/// The cargo that runs this program, or else the cargo on PATH.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    forget_own_package(&mut command);
    command
}

/// Removes the variables in which an outer `cargo run` describes its own package: a cargo
/// that is run by hand would not see them.
pub fn forget_own_package(command: &mut Command) {
    const OWN: &[&str] = &["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_NAME"];
    for (name, _) in std::env::vars_os() {
        if OWN.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
}
