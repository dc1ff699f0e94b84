//! An access on the command line of the built-in guest `hello`, as the guest reads it.

use wasmsr_interface::MsrIndex;

/// The access that `word` is, each number in the form that the guest reads: hex with `0x`.
///
/// # Errors
/// Why it is none.
pub(super) fn access(word: &str) -> Result<String, String> {
    let (msr, value) = match word.split_once('=') {
        None => (word, None),
        Some((msr, value)) => (msr, Some(value)),
    };
    let begins_as_number = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
    let index: MsrIndex = msr.parse().map_err(|_| match msr {
        "" => "the MSR is missing".to_owned(),
        _ if begins_as_number(msr) => {
            format!("`{msr}` is not the number of an MSR, 0 to 0xffffffff")
        }
        _ => format!(
            "`{msr}` is neither the number of an MSR, nor a name that wasmsr knows, nor a word \
             of this guest's"
        ),
    })?;
    let Some(value) = value else {
        return Ok(format!("{:#x}", index.0));
    };
    let value = match (value, number(value)) {
        (_, Some(number)) => number,
        ("", None) => return Err("the value is missing".to_owned()),
        _ => return Err(format!("`{value}` is not a value, 0 to 0xffffffffffffffff")),
    };
    Ok(format!("{:#x}={value:#x}", index.0))
}

/// A number of at most 64 bits, hex with `0x` or decimal.
pub(super) fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // `from_str_radix` takes a sign.
    let plain = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then(|| u64::from_str_radix(digits, radix).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_reach_the_guest_as_hex() {
        for (written, read) in [
            ("0x10A=0x1", "0x10a=0x1"),
            ("266", "0x10a"),
            ("266=43", "0x10a=0x2b"),
            ("0X10a=0XFF", "0x10a=0xff"),
            ("4294967295", "0xffffffff"),
            ("0x10a=18446744073709551615", "0x10a=0xffffffffffffffff"),
        ] {
            assert_eq!(access(written).unwrap(), read, "{written}");
        }
    }

    #[test]
    fn each_word_that_is_no_access_is_told_why() {
        for (word, why) in [
            ("0x10000000a", "is not the number of an MSR, 0 to 0xffffffff"),
            ("10a", "is not the number of an MSR"),
            ("0x", "is not the number of an MSR"),
            ("0x+1", "is not the number of an MSR"),
            ("read", "`read` is neither the number of an MSR, nor a name"),
            ("-1", "`-1` is neither"),
            ("=1", "the MSR is missing"),
            ("0x10a=", "the value is missing"),
            ("0x10a=0x1,0x10a", "`0x1,0x10a` is not a value"),
            ("0x10a=0x1=0x2", "`0x1=0x2` is not a value"),
            ("0x10a=+1", "`+1` is not a value"),
            ("0x10a=0x10000000000000000", "is not a value, 0 to 0xffffffffffffffff"),
        ] {
            let error = access(word).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
