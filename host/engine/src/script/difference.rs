//! A trace held against the answers that came.

use super::line::ScriptLine;
use super::step::number;

/// A step whose answer is another than the trace says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The step's line in the trace, from 1.
    pub line: usize,
    /// The line as it is written.
    pub expected: String,
    /// The line with the answer that came.
    pub came: String,
}

/// The steps of a trace that were answered otherwise; `answered` is what
/// [`Trace::replay`](super::Trace::replay) gave for it.
pub fn differences(trace: &str, answered: &str) -> Vec<Difference> {
    let lines = (1..).zip(trace.lines().zip(answered.lines()));
    let differing = lines.filter(|(_, (expected, came))| !same(expected, came));
    differing
        .map(|(line, (expected, came))| Difference {
            line,
            expected: expected.to_owned(),
            came: came.to_owned(),
        })
        .collect()
}

/// The trace with the answers that came; lines that were right stay as they are
/// written, and comments everywhere.
pub fn blessed(trace: &str, answered: &str) -> String {
    let mut blessed = String::with_capacity(trace.len());
    for (line, came) in trace.split_inclusive('\n').zip(answered.lines()) {
        let expected = line.trim_end_matches(['\n', '\r']);
        let end = line.get(expected.len()..).unwrap_or_default();
        blessed += if same(expected, came) { expected } else { came };
        blessed += end;
    }
    blessed
}

/// Spaces may align, and a number may be decimal or hexadecimal.
fn same(expected: &str, came: &str) -> bool {
    let (expected, came) = (ScriptLine::of(expected), ScriptLine::of(came));
    if expected.question.trim() != came.question.trim() {
        return false;
    }
    // These two answer with text, and with bytes.
    let is_text = matches!(expected.question.split_whitespace().next(), Some("report" | "mem"));
    let value = |answer: Option<&str>| answer.filter(|_| !is_text).and_then(|a| number(a).ok());
    match (value(expected.answer), value(came.answer)) {
        (Some(expected), Some(came)) => expected == came,
        _ => expected.answer == came.answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "path = 1\n---\nr 0x10   -> 0x1\n# a comment\nw 0x10 1 -> ok\n";

    #[test]
    fn spaces_may_align() {
        let answered = TRACE.replace("   ->", " ->");
        assert_eq!(differences(TRACE, &answered), []);
        assert_eq!(blessed(TRACE, &answered), TRACE);
    }

    #[test]
    fn values_are_compared_and_stay_as_they_are_written() {
        for (written, came, is_same) in [
            ("r 0x123 -> 5", "r 0x123 -> 0x5", true),
            ("r 0x123 -> 0x05 # why", "r 0x123 -> 0x5 # why", true),
            ("r 0x123 -> 0xA", "r 0x123 -> 0xa", true),
            ("kvm 0x10 -> 5", "kvm 0x10 -> 0x5", true),
            ("alarm -> 0x64", "alarm -> 100", true),
            ("r 0x123 -> 10", "r 0x123 -> 0x10", false),
            ("r 0x123 -> 0x0", "r 0x123 -> fault", false),
            ("r 0x123 -> ?", "r 0x123 -> 0x0", false),
            ("mem 0 1 -> 5", "mem 0 1 -> 05", false),
            ("report -> 5", "report -> 0x5", false),
        ] {
            assert_eq!(differences(written, came).is_empty(), is_same, "{written}");
            assert_eq!(blessed(written, came), if is_same { written } else { came });
        }
    }

    #[test]
    fn only_what_differs_is_blessed() {
        let answered = TRACE.replace("   ->", " ->").replace("ok", "fault");
        let expected = Difference {
            line: 5,
            expected: "w 0x10 1 -> ok".into(),
            came: "w 0x10 1 -> fault".into(),
        };
        assert_eq!(differences(TRACE, &answered), [expected]);
        assert_eq!(blessed(TRACE, &answered), TRACE.replace("ok", "fault"));
    }

    #[test]
    fn ends_of_lines_stay() {
        let trace = "---\r\nr 0x10   -> 0x1\r\nr 0x11 -> 0x1";
        let answered = "---\nr 0x10 -> 0x1\nr 0x11 -> 0x2\n";
        assert_eq!(differences(trace, answered).len(), 1);
        assert_eq!(blessed(trace, answered), trace.replace("0x11 -> 0x1", "0x11 -> 0x2"));
    }
}
