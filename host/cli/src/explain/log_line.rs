//! Lines of logs that name an MSR access: of Linux as a guest, KVM, QEMU, Xen, bhyve, VMware
//! and wasmsr itself.

use wasmsr_interface::{Direction, MsrIndex};

/// Most bytes of a line that are looked at; no log's line about an MSR is as long.
pub(crate) const LONGEST_LINE: usize = 2048;

/// An access that a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogAccess {
    /// The MSR.
    pub(crate) index: MsrIndex,
    /// `rdmsr` or `wrmsr`.
    pub(crate) direction: Direction,
    /// What was written, if the line says it.
    pub(crate) value: Option<u64>,
    /// Which log has such lines.
    pub(crate) speaker: Speaker,
}

/// What writes such a line, and so what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Speaker {
    /// Linux as the guest: it got a #GP that it did not expect.
    Guest,
    /// KVM: it does not answer, and the guest got a #GP.
    Unhandled,
    /// KVM with `ignore_msrs`: it read as 0, or was dropped.
    Ignored,
    /// QEMU: the host's KVM refuses a value that QEMU sets.
    Qemu,
    /// Xen: it does not answer.
    Xen,
    /// A program such as `rdmsr` or `turbostat`: the driver msr gave it an error.
    Program,
    /// The driver msr of Linux: a program writes, which may have gone well.
    Driver,
    /// Another VMM.
    Other,
}

impl Speaker {
    /// What its lines say.
    pub(crate) fn means(self) -> &'static str {
        match self {
            Speaker::Guest => "a Linux guest met a #GP that it did not expect, and went on",
            Speaker::Unhandled => "KVM does not answer it, and the guest got a #GP",
            Speaker::Ignored => "KVM gave 0 or dropped the write, since kvm.ignore_msrs is on",
            Speaker::Qemu => "KVM refused the value that QEMU wanted to set, and QEMU ended",
            Speaker::Xen => "Xen does not answer it, and the guest got a #GP",
            Speaker::Program => "a program used /dev/cpu/*/msr, and the access was a #GP",
            Speaker::Driver => "a program wrote it by /dev/cpu/*/msr, which Linux warns of",
            Speaker::Other => "the VMM does not answer it",
        }
    }
}

/// The access that a line of a log is about, whatever stands before it: times of `dmesg`,
/// prefixes of syslog and of the journal.
pub(crate) fn access(line: &str) -> Option<LogAccess> {
    let line = until(line, LONGEST_LINE).to_ascii_lowercase();
    let found = KEYWORDS.iter().filter_map(|word| Some((find_word(&line, word.text)?, word)));
    let mut found: Vec<(usize, &Keyword)> = found.collect();
    // Two lines may have run into one, and only one of them be about an access.
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().find_map(|(at, keyword)| behind(keyword, &line, at))
}

/// The access that a keyword introduces.
fn behind(keyword: &Keyword, line: &str, at: usize) -> Option<LogAccess> {
    let before = line.get(..at)?;
    let after = line.get(at + keyword.text.len()..)?;
    let of_a_vmm = ["attempted", "unhandled", "ignored", "perfctr"];
    let hex_without_prefix = of_a_vmm.iter().any(|word| before.trim_end().ends_with(word));
    let mut tokens = tokens(after).peekable();
    while tokens.next_if(|token| FILLERS.contains(token)).is_some() {}
    // A word such as "add" is no number.
    let token = tokens.next().filter(|token| token.bytes().any(|byte| byte.is_ascii_digit()))?;
    let mut index = number(token, hex_without_prefix)?;
    let mut value = match keyword.direction {
        Direction::Read => None,
        Direction::Write => written(tokens),
    };
    // "write of VALUE to MSR"
    if keyword.value_first
        && let Some((_, rest)) = after.split_once(" to ")
        && let Some(msr) = self::tokens(rest).next().and_then(|token| number(token, false))
    {
        value = Some(index);
        index = msr;
    }
    let speaker = speaker(keyword, before, line)?;
    let index = MsrIndex(u32::try_from(index).ok()?);
    Some(LogAccess { index, direction: keyword.direction, value, speaker })
}

/// A word before the MSR.
struct Keyword {
    text: &'static str,
    direction: Direction,
    /// Whose word it is, if it is only one's.
    of: Option<Speaker>,
    value_first: bool,
}

const fn word(text: &'static str, direction: Direction, of: Option<Speaker>) -> Keyword {
    Keyword { text, direction, of, value_first: false }
}

const KEYWORDS: &[Keyword] = &[
    word("rdmsr", Direction::Read, None),
    word("wrmsr", Direction::Write, None),
    word("msr read", Direction::Read, None),
    word("msr write", Direction::Write, None),
    word("cannot read msr", Direction::Read, Some(Speaker::Program)),
    word("cannot set msr", Direction::Write, Some(Speaker::Program)),
    // Behind the MSR stands which of the two failed.
    word("msr offset", Direction::Read, Some(Speaker::Program)),
    word("msr offset", Direction::Write, Some(Speaker::Program)),
    word("write to unrecognized msr", Direction::Write, Some(Speaker::Driver)),
    word("failed to get msr", Direction::Read, Some(Speaker::Qemu)),
    word("failed to set msr", Direction::Write, Some(Speaker::Qemu)),
    word("getmsr: unknown msr", Direction::Read, Some(Speaker::Other)),
    word("setmsr: unknown msr", Direction::Write, Some(Speaker::Other)),
    word("the read of", Direction::Read, Some(Speaker::Other)),
    Keyword { value_first: true, ..word("the write of", Direction::Write, Some(Speaker::Other)) },
];

/// Words between the keyword and the MSR.
const FILLERS: &[&str] = &["from", "to", "of", "register", "msr", "index"];

fn speaker(keyword: &Keyword, before: &str, line: &str) -> Option<Speaker> {
    if keyword.value_first || keyword.text == "the read of" {
        // wasmsr's own sentence.
        return line.contains("unhandled").then_some(Speaker::Other);
    }
    let failed = match keyword.direction {
        Direction::Read => " read failed",
        Direction::Write => " write failed",
    };
    if keyword.text == "msr offset" && !line.contains(failed) {
        return None;
    }
    Some(match keyword.of {
        Some(speaker) => speaker,
        None if before.contains("unchecked msr access error") => Speaker::Guest,
        None if before.trim_end().ends_with("ignored") => Speaker::Ignored,
        None if before.contains("attempted") => Speaker::Xen,
        None if ["unhandled", "perfctr"].iter().any(|word| before.trim_end().ends_with(word)) => {
            Speaker::Unhandled
        }
        None if line.trim_end().ends_with("unimplemented") => Speaker::Xen,
        None if line.contains(" register ") => Speaker::Other,
        // A stack trace or a sentence of a driver.
        None => return None,
    })
}

/// What a line says was written, from the words behind the MSR.
fn written<'a>(tokens: impl Iterator<Item = &'a str>) -> Option<u64> {
    let mut tokens = tokens.peekable();
    while let Some(token) = tokens.next() {
        match token {
            // What follows is a place in the guest's code.
            "at" | "rip" => return None,
            // Xen says the value before, too.
            "from" => drop(tokens.next()),
            "data" | "val" | "value" => return number(tokens.next()?, true),
            _ => {
                if let Some(value) = number(token, false) {
                    return Some(value);
                }
            }
        }
    }
    None
}

/// The words and numbers of a text.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let separates = |c: char| c.is_whitespace() || "():,;=[]".contains(c);
    text.split(separates).filter(|token| !token.is_empty())
}

fn number(token: &str, hex_without_prefix: bool) -> Option<u64> {
    let digits = match token.strip_prefix("0x") {
        Some(digits) => digits,
        None if hex_without_prefix => token,
        None => return None,
    };
    // `from_str_radix` takes a sign.
    let digits = digits.trim_end_matches('.');
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// Where a word stands that is not a part of a longer one, such as `native_read_msr` or
/// `rdmsr_safe`.
fn find_word(line: &str, word: &str) -> Option<usize> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_+".contains(byte);
    line.match_indices(word).map(|(at, _)| at).find(|&at| {
        let before = line.as_bytes().get(..at).and_then(<[u8]>::last);
        let after = line.as_bytes().get(at + word.len());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// The beginning of a text, in whole characters.
fn until(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, index: u32, direction: Direction, value: Option<u64>, speaker: Speaker) {
        let expected = LogAccess { index: MsrIndex(index), direction, value, speaker };
        assert_eq!(access(line), Some(expected), "{line}");
    }

    use Direction::{Read, Write};

    /// Linux, `arch/x86/mm/extable.c`, `ex_handler_msr`.
    #[test]
    fn a_linux_guest_says_it_met_a_fault() {
        check(
            "[    0.000000] unchecked MSR access error: RDMSR from 0x10a at rIP: \
             0xffffffff81037b26 (native_read_msr+0x6/0x20)",
            0x10a,
            Read,
            None,
            Speaker::Guest,
        );
        check(
            "Nov 30 10:00:00 vm kernel: unchecked MSR access error: WRMSR to 0x48 (tried to write \
             0x0000000000000004) at rIP: 0xffffffff8107c1a4 (native_write_msr+0x4/0x20)",
            0x48,
            Write,
            Some(4),
            Speaker::Guest,
        );
    }

    /// Linux, `arch/x86/kvm/x86.c`, `kvm_msr_ignored_check` and `kvm_pr_unimpl_wrmsr`, in the
    /// forms of several versions; google/novm#26, virt-manager/virt-manager#570,
    /// TritonDataCenter/smartos-live#695.
    #[test]
    fn kvm_says_what_it_does_not_answer() {
        for (line, index, direction, value) in [
            ("kvm [12633]: vcpu0 unhandled rdmsr: 0x1c9", 0x1c9, Read, None),
            (
                "kvm: vcpu0, guest rIP: 0xffffffff8103f4a2 unhandled wrmsr: 0x391 data 2000000f",
                0x391,
                Write,
                Some(0x2000_000f),
            ),
            (
                "[ 6044.4] kvm [3412]: vcpu0, guest rIP: 0xfffff8019c8d6103 unhandled rdmsr: 0x611",
                0x611,
                Read,
                None,
            ),
            (
                "Sep 04 22:56:17 PC kernel: kvm_amd: kvm [67539]: vcpu3, guest rIP: \
                 0xfffff8547ad7624d Unhandled WRMSR(0xc0010115) = 0x0",
                0xc001_0115,
                Write,
                Some(0),
            ),
            ("kvm [1]: vcpu0, guest rIP: 0x1 Unhandled RDMSR(0x3a)", 0x3a, Read, None),
            (
                "kvm: [ID 391722 kern.info] unhandled wrmsr: 0x50cc47 data 90",
                0x50_cc47,
                Write,
                Some(0x90),
            ),
            (
                "kvm: unimplemented perfctr wrmsr: 0x186 data 0x5100c0",
                0x186,
                Write,
                Some(0x51_00c0),
            ),
        ] {
            check(line, index, direction, value, Speaker::Unhandled);
        }
        check(
            "kvm [5]: vcpu1, guest rIP: 0xfffff800 ignored rdmsr: 0x122 data 0x0",
            0x122,
            Read,
            None,
            Speaker::Ignored,
        );
        check(
            "kvm [5]: vcpu1, guest rIP: 0xfffff800 ignored wrmsr: 0x17f data 0x2",
            0x17f,
            Write,
            Some(2),
            Speaker::Ignored,
        );
    }

    /// QEMU, `target/i386/kvm/kvm.c`; Xen, `arch/x86/hvm` and `arch/x86/pv`; FreeBSD,
    /// `usr.sbin/bhyve`; VMware's `vmware.log` in tandasat/MiniVisorPkg#2.
    #[test]
    fn other_vmms_say_it_in_their_words() {
        let set = "qemu-system-x86_64: error: failed to set MSR 0x38f to 0x7000000ff";
        check(set, 0x38f, Write, Some(0x7_0000_00ff), Speaker::Qemu);
        let get = "error: failed to get MSR 0x345";
        check(get, 0x345, Read, None, Speaker::Qemu);
        check("(XEN) d1v0 RDMSR 0x00000140 unimplemented", 0x140, Read, None, Speaker::Xen);
        check(
            "(XEN) d1v0 WRMSR 0x000001a4 val 0x000000000000000f unimplemented",
            0x1a4,
            Write,
            Some(0xf),
            Speaker::Xen,
        );
        check(
            "(XEN) emul-priv-op.c:1139:d0v1 Domain attempted WRMSR c0011020 from \
             0x0006404000000000 to 0x0006404000000400",
            0xc001_1020,
            Write,
            Some(0x0006_4040_0000_0400),
            Speaker::Xen,
        );
        check("rdmsr to register 0x140 on vcpu 0", 0x140, Read, None, Speaker::Other);
        check("wrmsr to register 0x8b(0) on vcpu 1", 0x8b, Write, None, Speaker::Other);
        check(
            "vcpu-0| I125: SetMSR: unknown MSR[0x1d9]:=0x0 (sinking): rip=0xafd5990 count=8700",
            0x1d9,
            Write,
            Some(0),
            Speaker::Other,
        );
        check(
            " INFO the read of 0x606 (MSR_RAPL_POWER_UNIT) is unhandled (reason unknown, vCPU 0): \
             fault, by [msr] unknown = \"fault\"",
            0x606,
            Read,
            None,
            Speaker::Other,
        );
        check(
            " INFO the write of 0x2000000f to 0x391 (X) is unhandled (reason unknown, vCPU 0)",
            0x391,
            Write,
            Some(0x2000_000f),
            Speaker::Other,
        );
    }

    /// `turbostat` and `msr-tools`; Linux, `arch/x86/kernel/msr.c`, `filter_write`.
    #[test]
    fn programs_and_their_driver_say_it_too() {
        for (line, index, direction, value) in [
            ("turbostat: cpu0: msr offset 0xe2 read failed: Input/output error", 0xe2, Read, None),
            ("cpu3: msr offset 0x1b0 write failed: Input/output error", 0x1b0, Write, None),
            ("rdmsr: CPU 0 cannot read MSR 0x000001ad", 0x1ad, Read, None),
            ("wrmsr: CPU 0 cannot set MSR 0x0000010a to 0x0000000000000007", 0x10a, Write, Some(7)),
        ] {
            check(line, index, direction, value, Speaker::Program);
        }
        let driver = "msr: Write to unrecognized MSR 0x1a0 by rdmsr (pid: 1)";
        check(driver, 0x1a0, Write, None, Speaker::Driver);
        assert_eq!(access("cpu0: msr offset 0xe2 is odd"), None);
    }

    #[test]
    fn an_index_of_kvm_may_lack_its_prefix() {
        check("unhandled MSR read 0x1ad", 0x1ad, Read, None, Speaker::Unhandled);
        check("unhandled MSR write: 0x1ad data 5", 0x1ad, Write, Some(5), Speaker::Unhandled);
        check("unhandled rdmsr: 1ad", 0x1ad, Read, None, Speaker::Unhandled);
        check("ignored wrmsr: c0010015 data 1", 0xc001_0015, Write, Some(1), Speaker::Ignored);
        assert_eq!(access("unhandled rdmsr: add it"), None);
        assert_eq!(access("an MSR read 0x10 is fast"), None);
    }

    /// A guest's console and the log, on one terminal.
    #[test]
    fn an_access_is_found_behind_other_words() {
        check(
            "  wrmsr 0x000001ad = 0x5 INFO the write of 0x1ad (X) is unhandled (reason unknown)",
            0x1ad,
            Write,
            None,
            Speaker::Other,
        );
    }

    #[test]
    fn other_lines_name_no_access() {
        for line in [
            "",
            "RIP: 0010:native_read_msr+0x6/0x20",
            " ? rdmsr_safe+0x12/0x40",
            "x86/cpu: rdmsr 0x10 is fast",
            "wrmsr",
            "unhandled rdmsr:",
            "unhandled rdmsr: 0x",
            "unhandled rdmsr: 0x+1",
            "unhandled rdmsr: 0x100000000",
            "unhandled wrmsr: 0x10000000000000000 data 0",
            "failed to set MSR nothing",
            "the read of 0x10 pages was slow",
        ] {
            assert_eq!(access(line), None, "{line}");
        }
        let long = format!("{}unhandled rdmsr: 0x10", "ä".repeat(LONGEST_LINE));
        assert_eq!(access(&long), None);
    }
}
