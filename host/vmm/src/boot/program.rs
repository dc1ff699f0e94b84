//! The command line of the built-in guest `hello`: a small language, checked on the host
//! and handed on in the form that the guest reads, a sign for each word (`hello/words.S`).

use std::fmt;
use std::str::SplitWhitespace;

use wasmsr_interface::counted;

use super::accesses::{access, number};

/// What `cmdline` says, for a guest with `vcpus` vCPUs to read.
///
/// # Errors
/// All that is wrong with it.
pub(super) fn for_guest(cmdline: &str, vcpus: u32) -> Result<String, WrongWords> {
    let mut program = Program { vcpus, ..Program::default() };
    let mut words = cmdline.split_whitespace();
    while let Some(word) = words.next() {
        let read = program.word(word, &mut words);
        if let Err((words, why)) = read {
            program.wrong.push(format!("`{words}`: {why}"));
        }
    }
    program.end_section();
    match program.wrong.is_empty() {
        true => Ok(program.text.join(" ")),
        false => Err(WrongWords(program.wrong)),
    }
}

/// The longest `wait`, an hour.
const LONGEST_WAIT: u64 = 3_600_000;

/// How deep loops can lie in one another.
const DEEPEST: usize = 4;

/// What was read so far.
#[derive(Debug, Default)]
struct Program {
    vcpus: u32,
    text: Vec<String>,
    wrong: Vec<String>,
    /// The loops that are open.
    loops: Vec<Loop>,
    /// A loop without an end has ended: nothing behind it is ever done.
    stuck: bool,
    /// The vCPUs that have a section.
    named: Vec<(u32, u32)>,
}

#[derive(Debug)]
struct Loop {
    /// As written.
    words: String,
    forever: bool,
    /// Where its body begins in the text.
    body: usize,
}

/// Words and what is wrong with them.
type Wrong = (String, String);

impl Program {
    /// Reads `word`, and of the rest what belongs to it.
    fn word(&mut self, word: &str, rest: &mut SplitWhitespace<'_>) -> Result<(), Wrong> {
        let alone = |why: String| (word.to_owned(), why);
        if self.stuck && word != "cpu" {
            // Once is enough.
            self.stuck = false;
            let why = "is never done, since the `repeat forever` before it has no end";
            self.wrong.push(format!("`{word}`: {why}"));
        }
        match word {
            "wait" => self.wait(rest),
            "repeat" => self.repeat(rest),
            "cpu" => self.cpu(rest),
            "end" => match self.loops.pop() {
                Some(ended) => self.end_loop(&ended),
                None => Err(alone("there is no `repeat` that it could end".to_owned())),
            },
            "quiet" => self.put("-"),
            "loud" => self.put("+"),
            "reset" => self.put("!"),
            access_word => {
                let access = access(access_word).map_err(alone)?;
                self.put(&access)
            }
        }
    }

    fn put(&mut self, sign: &str) -> Result<(), Wrong> {
        self.text.push(sign.to_owned());
        Ok(())
    }

    fn wait(&mut self, rest: &mut SplitWhitespace<'_>) -> Result<(), Wrong> {
        let time = rest.next().unwrap_or_default();
        match number(time) {
            Some(time @ 1..=LONGEST_WAIT) => self.put(&format!("w{time:#x}")),
            _ => Err((
                spoken("wait", time),
                format!("say for how many milliseconds, 1 to {LONGEST_WAIT}: `wait 500`"),
            )),
        }
    }

    fn repeat(&mut self, rest: &mut SplitWhitespace<'_>) -> Result<(), Wrong> {
        let often = rest.next().unwrap_or_default();
        let times = match (often, number(often)) {
            ("forever", _) => 0,
            (_, Some(times @ 1..=0xffff_ffff)) => times,
            _ => {
                let why =
                    format!("say how often, 1 to {}: `repeat 10`, or `repeat forever`", u32::MAX);
                return Err((spoken("repeat", often), why));
            }
        };
        self.text.push(format!("*{times:#x}"));
        let words = spoken("repeat", often);
        self.loops.push(Loop { words: words.clone(), forever: times == 0, body: self.text.len() });
        match self.loops.len() <= DEEPEST {
            true => Ok(()),
            false => Err((words, format!("at most {DEEPEST} can lie in one another"))),
        }
    }

    fn end_loop(&mut self, ended: &Loop) -> Result<(), Wrong> {
        let empty = self.text.len() == ended.body;
        self.text.push(";".to_owned());
        self.stuck |= ended.forever;
        match empty {
            true => Err((
                ended.words.clone(),
                "nothing is repeated; the number behind it says how often".to_owned(),
            )),
            false => Ok(()),
        }
    }

    fn cpu(&mut self, rest: &mut SplitWhitespace<'_>) -> Result<(), Wrong> {
        let first_section = self.named.is_empty();
        let stuck = self.end_section();
        let which = rest.next().unwrap_or_default();
        let words = spoken("cpu", which);
        if first_section && stuck {
            let why = "no vCPU ever gets here: what stands before the first `cpu` is done first, \
                       and it repeats something forever";
            return Err((words, why.to_owned()));
        }
        let last = self.vcpus.saturating_sub(1);
        let vcpu = |text| number(text).and_then(|number| u32::try_from(number).ok());
        let range = match which.split_once('-') {
            None if which == "all" => Some((0, last)),
            None => vcpu(which).map(|only| (only, only)),
            Some((first, last)) => vcpu(first).zip(vcpu(last)),
        };
        let (from, to) = match range {
            Some((from, to)) if from <= to => (from, to),
            _ => {
                let why = "say which vCPUs do what follows: `cpu 1`, `cpu 0-3` or `cpu all`";
                return Err((words, why.to_owned()));
            }
        };
        if to > last {
            let have = counted(self.vcpus, "vCPU", "vCPUs");
            return Err((words, format!("the VM has {have}, 0 to {last}; raise `vcpus`")));
        }
        if self.named.iter().any(|&(first, last)| from <= last && first <= to) {
            return Err((words, "a vCPU has one section; put them together".to_owned()));
        }
        self.named.push((from, to));
        self.put(&format!("@{from:#x}-{to:#x}"))
    }

    /// Ends what is open, and says whether nothing after it would be done.
    fn end_section(&mut self) -> bool {
        while let Some(open) = self.loops.pop() {
            if let Err((words, why)) = self.end_loop(&open) {
                self.wrong.push(format!("`{words}`: {why}"));
            }
        }
        std::mem::take(&mut self.stuck)
    }
}

/// A word and what was taken for its number.
fn spoken(word: &str, number: &str) -> String {
    format!("{word} {number}").trim_end().to_owned()
}

/// What is wrong with a command line, each with the reason.
#[derive(Debug)]
pub struct WrongWords(Vec<String>);

impl fmt::Display for WrongWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 16;
        let shown = self.0.get(..SHOWN).unwrap_or(&self.0);
        f.write_str(&shown.join("; "))?;
        match self.0.len() - shown.len() {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_has_its_sign() {
        for (written, read) in [
            ("0x10a 0x10A=0x1  266", "0x10a 0x10a=0x1 0x10a"),
            ("wait 500 wait 0x10", "w0x1f4 w0x10"),
            ("repeat 2 0x10 end 0x11", "*0x2 0x10 ; 0x11"),
            ("repeat forever 0x10", "*0x0 0x10 ;"),
            ("repeat 2 repeat 3 0x10", "*0x2 *0x3 0x10 ; ;"),
            ("quiet repeat 2 0x10 end loud reset", "- *0x2 0x10 ; + !"),
            ("0x10 cpu 1 0x11", "0x10 @0x1-0x1 0x11"),
            ("cpu all repeat forever 0x10", "@0x0-0x3 *0x0 0x10 ;"),
            ("cpu 0-1 repeat forever 0x10 cpu 3 0x11", "@0x0-0x1 *0x0 0x10 ; @0x3-0x3 0x11"),
            ("", ""),
        ] {
            assert_eq!(for_guest(written, 4).unwrap(), read, "{written}");
        }
    }

    /// `cmdline` is wrong in these places, each with its reason, and in no other.
    #[track_caller]
    fn check(cmdline: &str, mistakes: &[(&str, &str)]) {
        let WrongWords(found) = for_guest(cmdline, 4).unwrap_err();
        assert_eq!(found.len(), mistakes.len(), "{found:?}");
        for (found, (words, why)) in found.iter().zip(mistakes) {
            assert!(found.starts_with(&format!("`{words}`: ")) && found.contains(why), "{found}");
        }
    }

    #[test]
    fn each_mistake_is_told_with_what_to_write() {
        check("wait", &[("wait", "say for how many milliseconds")]);
        check("wait 0", &[("wait 0", "1 to 3600000: `wait 500`")]);
        check("wait 3600001", &[("wait 3600001", "milliseconds")]);
        check("repeat", &[("repeat", "`repeat 10`, or `repeat forever`")]);
        check("repeat 0 0x10", &[("repeat 0", "say how often")]);
        check("repeat IA32_TSC", &[("repeat IA32_TSC", "say how often")]);
        check("repeat 0x10a", &[("repeat 0x10a", "nothing is repeated")]);
        check("repeat 5 end 0x10", &[("repeat 5", "says how often")]);
        check("end", &[("end", "no `repeat`")]);
        check(
            &"repeat 2 ".repeat(5),
            &[("repeat 2", "at most 4"), ("repeat 2", "nothing is repeated")],
        );
        check("repeat forever 0x10 end 0x11 0x12", &[("0x11", "never done")]);
        check("repeat forever 0x10 cpu 1 0x11", &[("cpu 1", "no vCPU ever gets here")]);
        check("cpu 4 0x10", &[("cpu 4", "the VM has 4 vCPUs, 0 to 3; raise `vcpus`")]);
        check("cpu", &[("cpu", "`cpu 1`, `cpu 0-3` or `cpu all`")]);
        check("cpu 3-1 0x10", &[("cpu 3-1", "say which")]);
        check("cpu 0 0x10 cpu all 0x11", &[("cpu all", "one section")]);
        check("read", &[("read", "neither the number of an MSR, nor")]);
    }

    #[test]
    fn all_mistakes_are_told_at_once_but_not_without_end() {
        check(
            "10a wait x 0x10a end",
            &[
                ("10a", "not the number of an MSR"),
                ("wait x", "milliseconds"),
                ("end", "no `repeat`"),
            ],
        );
        let many = "x ".repeat(1000);
        let error = for_guest(&many, 1).unwrap_err().to_string();
        assert!(error.ends_with("; and 984 more") && error.len() < 3000, "{error}");
    }
}
