//! A value as a number of TOML.

/// TOML's integers end at 2^63 - 1; plugins take larger numbers as text.
pub(super) fn number(value: u64) -> String {
    match i64::try_from(value) {
        Ok(_) => format!("{value:#x}"),
        Err(_) => format!("\"{value:#x}\""),
    }
}
