//! The name of a VM: for people, in commands and labels.

use std::path::Path;

/// Longest name.
const LONGEST: usize = 63;

/// Whether a VM can have this name.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > LONGEST {
        return Err(format!("a name has 1 to {LONGEST} characters, not {}", name.len()));
    }
    match name.chars().find(|character| !is_allowed(*character)) {
        Some(wrong) => Err(format!(
            "a name cannot have {wrong:?}; it has letters and digits of ASCII, `-`, `_` and `.`"
        )),
        None => Ok(()),
    }
}

fn is_allowed(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.')
}

/// The name of a VM whose profile gives none: the file's, without its ending.
pub fn name_of_profile(profile: &Path) -> String {
    let stem = profile.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    let fit = |character| if is_allowed(character) { character } else { '-' };
    let name: String = stem.chars().map(fit).take(LONGEST).collect();
    if name.is_empty() { "vm".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for name in ["web-1", "a", "A_b.9", &"x".repeat(63)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for (name, why) in [
            ("", "1 to 63"),
            (&*"x".repeat(64), "not 64"),
            ("a b", "' '"),
            ("é", "'é'"),
            ("a/b", "'/'"),
            ("a\n", "'\\n'"),
        ] {
            let error = check_name(name).unwrap_err();
            assert!(error.contains(why), "{name}: {error}");
        }
    }

    #[test]
    fn a_name_is_made_of_any_profile() {
        let long = format!("{}.toml", "y".repeat(200));
        for (profile, name) in [
            ("/vms/web-1.toml", "web-1"),
            ("my vm (2).toml", "my-vm--2-"),
            ("/", "vm"),
            (&*long, &*"y".repeat(63)),
        ] {
            assert_eq!(name_of_profile(Path::new(profile)), name);
            assert_eq!(check_name(&name_of_profile(Path::new(profile))), Ok(()));
        }
    }
}
