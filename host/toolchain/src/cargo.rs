//! cargo, as a command of its own.

use std::process::Command;

/// The cargo that runs this program, or else the one on PATH.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    forget_own_package(&mut command);
    command
}

/// Takes out what an outer `cargo run` told about its own package: an inner
/// cargo would see variables that a cargo run by hand does not.
pub fn forget_own_package(command: &mut Command) {
    const OWN: &[&str] = &["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_NAME"];
    for (name, _) in std::env::vars_os() {
        if OWN.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
}
