//! A trace held against the answers that came.

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
/// [`replay`](super::replay) gave for it.
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
/// written.
pub fn blessed(trace: &str, answered: &str) -> String {
    let lines = trace.lines().zip(answered.lines());
    let blessed = lines.map(|(expected, came)| if same(expected, came) { expected } else { came });
    blessed.flat_map(|line| [line, "\n"]).collect()
}

/// Spaces may align.
fn same(expected: &str, came: &str) -> bool {
    let parts = |line: &str| {
        let (question, answer) = line.split_once("->").unwrap_or((line, ""));
        (question.trim().to_owned(), answer.trim().to_owned())
    };
    parts(expected) == parts(came)
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
}
