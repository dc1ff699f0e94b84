//! One line of a table of MSRs, in the forms that tools print.

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Nothing, or a comment.
    Empty,
    /// An MSR and its value.
    Register(u32, u64),
    /// Something else.
    Other,
}

/// A line is an MSR and its value, with anything between them that is no number. Numbers
/// are hexadecimal, with or without `0x`, as `rdmsr` prints them.
///
/// ```text
/// 0x10a 0x2b                                    a plain table
/// 0x10a,IA32_ARCH_CAPABILITIES,0x2b             comma-separated values
/// 0x1ad: 0x0000000021222324                     lists with colons, or with `=`
/// MSR 000000CE  0008-3833-F312-8600 [S200]      dumps of AIDA64 and InstLatx64, with the
///                                               remark on either side of the value
/// 0x000000CE 0x00083833 0xF3128600              EDX and EAX apart
/// cpu0: MSR_PLATFORM_INFO: 0x80838f3012200 (…)  turbostat, which prints names
/// ```
pub(super) fn parse(line: &str) -> Line {
    let line = line.split(['#', ';']).next().unwrap_or_default();
    // What is in brackets is a remark, mostly behind the value.
    let before = line.split(['(', '[']).next().unwrap_or_default();
    match register(before) {
        Line::Register(msr, value) => Line::Register(msr, value),
        other if before.len() == line.len() => other,
        _ => register(&without_remarks(line)),
    }
}

/// The text outside of brackets.
fn without_remarks(line: &str) -> String {
    let mut depth = 0_usize;
    let outside = line.chars().map(|c| match c {
        '(' | '[' => {
            depth += 1;
            ' '
        }
        ')' | ']' => {
            depth = depth.saturating_sub(1);
            ' '
        }
        _ if depth > 0 => ' ',
        c => c,
    });
    outside.collect()
}

fn register(line: &str) -> Line {
    let separators = |c: char| c.is_whitespace() || matches!(c, ',' | ':' | '=' | '"' | '|');
    let mut words = line.split(separators).filter(|word| !word.is_empty()).peekable();
    if words.peek().is_none() {
        return Line::Empty;
    }
    let mut words: Vec<&str> = words.filter(|word| !is_label(word)).collect();
    let value = match words.as_slice() {
        // Both halves of 32 bits, written whole. Other numbers between the two may be anything.
        [_, high, low] if hexadecimal(high).is_some() => halves(high, low),
        [_, between @ .., _] if between.iter().any(|word| hexadecimal(word).is_some()) => None,
        _ => words.pop().and_then(value_of),
    };
    match (words.first().and_then(|word| index_of(word)), value) {
        (Some(msr), Some(value)) => Line::Register(msr, value),
        _ => Line::Other,
    }
}

/// `MSR`, `rdmsr`, `cpu0` and the like, before the MSR.
fn is_label(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    let cpu = word.strip_prefix("cpu").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    cpu || matches!(word.as_str(), "msr" | "rdmsr" | "reg" | "register" | "->")
}

fn index_of(word: &str) -> Option<u32> {
    match hexadecimal(word) {
        Some(number) => u32::try_from(number).ok(),
        None => wasmsr_msrs::index_of(word),
    }
}

fn value_of(word: &str) -> Option<u64> {
    let groups: Vec<&str> = word.split('-').collect();
    let of_four = |group: &&str| group.len() == 4 && group.bytes().all(|b| b.is_ascii_hexdigit());
    match groups.len() == 4 && groups.iter().all(of_four) {
        true => hexadecimal(&groups.concat()),
        false => hexadecimal(word),
    }
}

/// `0b101`, which is not what tools print; with 8 or 16 characters it is a hexadecimal
/// number with its zeros.
fn is_binary(word: &str) -> bool {
    let digits = word.strip_prefix("0b").or_else(|| word.strip_prefix("0B")).unwrap_or_default();
    !digits.is_empty()
        && digits.bytes().all(|b| matches!(b, b'0' | b'1'))
        && !matches!(word.len(), 8 | 16)
}

fn halves(high: &str, low: &str) -> Option<u64> {
    let whole = |word: &str| word.trim_start_matches("0x").trim_start_matches("0X").len() == 8;
    let (high, low) =
        (hexadecimal(high).filter(|_| whole(high))?, hexadecimal(low).filter(|_| whole(low))?);
    Some(high << 32 | low)
}

fn hexadecimal(word: &str) -> Option<u64> {
    let digits = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")).unwrap_or(word);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let plain = plain && !is_binary(word);
    plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_is_read_in_each_form() {
        for (line, msr, value) in [
            ("0x10a 0x2b", 0x10a, 0x2b),
            ("10a 2b", 0x10a, 0x2b),
            ("0000010A\t000000000000002B", 0x10a, 0x2b),
            ("0x10a,0x2b", 0x10a, 0x2b),
            ("\"0x10a\",\"IA32_ARCH_CAPABILITIES\",\"0x2b\"", 0x10a, 0x2b),
            ("0x10a: 0x2b # what it says", 0x10a, 0x2b),
            ("MSR 0x10a = 0x2b", 0x10a, 0x2b),
            ("rdmsr 0xffffffff -> ffffffffffffffff", u32::MAX, u64::MAX),
            ("MSR 000000CE   0008-3833-F312-8600 [S200]", 0xce, 0x0008_3833_f312_8600),
            ("MSR 000001AD [S200] 0000-0000-0000-002B", 0x1ad, 0x2b),
            ("0x1ad (turbo (ratios)) 0x2b (why)", 0x1ad, 0x2b),
            ("10a 0b101011", 0x10a, 0x0b10_1011),
            ("0x000000CE 0x00083833 0xF3128600", 0xce, 0x0008_3833_f312_8600),
            (
                "cpu0: MSR_PLATFORM_INFO: 0x80838f3012200 (8 * 100.0 = 800.0 MHz max efficiency frequency)",
                0xce,
                0x0008_0838_f301_2200,
            ),
            ("cpu3: IA32_APERF 5", 0xe8, 5),
            ("cpu0: MSR_IA32_MISC_ENABLE: 0x00850089 (TCC EIST)", 0x1a0, 0x85_0089),
        ] {
            assert_eq!(parse(line), Line::Register(msr, value), "{line}");
        }
    }

    #[test]
    fn what_is_no_register_is_not_one() {
        for line in ["", "   ", "# 0x10a 0x2b", "; 0x10a 0x2b", "[section]"] {
            assert_eq!(parse(line), Line::Empty, "{line}");
        }
        for line in [
            "index,name,value",
            "0x10a",
            "0x10a -",
            "0x100000000 1",
            "0x10a 0x10000000000000000",
            "0x10a +1",
            "1ad 0b101",
            "0b10 1",
            "0x1ad [0x2b]",
            "0x10a 0x",
            "0x10a 0 2b",
            "0x10a 1 2 3",
            "8 * 100.0 = 800.0 MHz max efficiency frequency",
        ] {
            assert_eq!(parse(line), Line::Other, "{line}");
        }
    }
}
