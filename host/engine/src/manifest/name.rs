//! Names of plugins.

/// What [`is_name`] asks for, in errors.
pub(crate) const NAME_RULE: &str = "1 to 64 lower-case letters, digits or `-`";

/// Whether a plugin may be called so.
pub(crate) fn is_name(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(letter)
}
