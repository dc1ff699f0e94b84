//! What the SDK takes from `plugin.toml` when the plugin is compiled.

use crate::Version;

/// The version that a manifest gives: what is behind `version =`, outside comments.
#[expect(clippy::panic, reason = "only the compiler calls it, and shows what it says")]
pub const fn version(manifest: &[u8]) -> Version {
    let mut rest = manifest;
    let mut starts_a_word = true;
    while let [first, after @ ..] = rest {
        let value = match starts_a_word {
            true => behind(rest, b"version"),
            false => None,
        };
        if let Some(value) = value {
            let (major, value) = number(value);
            let [b'.', value @ ..] = value else { break };
            let (minor, _) = number(value);
            return Version(major, minor);
        }
        rest = if *first == b'#' { behind_line(after) } else { after };
        starts_a_word = !(first.is_ascii_alphanumeric() || matches!(*first, b'_' | b'-'));
    }
    panic!("plugin.toml has no line `version = \"MAJOR.MINOR.PATCH\"`")
}

/// What is behind `key =` and a quote.
const fn behind<'a>(mut text: &'a [u8], mut key: &[u8]) -> Option<&'a [u8]> {
    while let [wanted, wanted_after @ ..] = key {
        let [first, after @ ..] = text else { return None };
        if *first != *wanted {
            return None;
        }
        (text, key) = (after, wanted_after);
    }
    let [b'=', value @ ..] = text.trim_ascii_start() else { return None };
    let [b'"' | b'\'', value @ ..] = value.trim_ascii_start() else { return None };
    Some(value)
}

const fn behind_line(mut text: &[u8]) -> &[u8] {
    while let [first, after @ ..] = text {
        text = after;
        if *first == b'\n' {
            break;
        }
    }
    text
}

const fn number(mut text: &[u8]) -> (u32, &[u8]) {
    let mut number: u32 = 0;
    while let [digit @ b'0'..=b'9', after @ ..] = text {
        number = number.saturating_mul(10).saturating_add((*digit - b'0') as u32);
        text = after;
    }
    (number, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_manifests() {
        for manifest in [
            "[plugin]\nname = \"a\"\nversion = \"12.345.6\"\nabi = 1",
            "# version = \"1.2.3\"\n[plugin]\nabi-version=\"9.9.9\"\nversion   =  '12.345.0-a.1'",
            "plugin = { name = \"a\", version=\"12.345.6\" }",
            "plugin.version = \"12.345.6\"",
            "[plugin] # version = \"1.2.3\"\nversion = \"12.345\"",
        ] {
            assert_eq!(version(manifest.as_bytes()), Version(12, 345), "{manifest}");
        }
    }
}
