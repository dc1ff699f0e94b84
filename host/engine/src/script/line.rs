//! A line of a trace in its parts.

/// `r 0x10a -> 0x2b   # as the CPU has it`: what is asked or told, the answer,
/// a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ScriptLine<'a> {
    pub(super) question: &'a str,
    /// `None` where nothing is asked.
    pub(super) answer: Option<&'a str>,
    /// With the spaces before it.
    pub(super) comment: &'a str,
}

impl<'a> ScriptLine<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        // What a plugin reports may hold anything.
        let is_report = text.split_whitespace().next() == Some("report");
        let said = match text.find('#').filter(|_| !is_report) {
            Some(comment) => text.get(..comment).unwrap_or(text),
            None => text,
        };
        let (said, comment) = text.split_at(said.trim_end().len());
        match said.split_once("->") {
            Some((question, answer)) => {
                ScriptLine { question: question.trim_end(), answer: Some(answer.trim()), comment }
            }
            None => ScriptLine { question: said, answer: None, comment },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_ends_what_is_said() {
        for (text, question, answer, comment) in [
            ("", "", None, ""),
            ("# r 0x10 -> 0x1", "", None, "# r 0x10 -> 0x1"),
            ("  # why", "", None, "  # why"),
            ("cpu 1   # the second", "cpu 1", None, "   # the second"),
            ("r 0x10   -> 0x1", "r 0x10", Some("0x1"), ""),
            ("r 0x10 -> 0x1  # -> not 2", "r 0x10", Some("0x1"), "  # -> not 2"),
            ("r 0x10 ->", "r 0x10", Some(""), ""),
            ("report -> 1 -> # 2", "report", Some("1 -> # 2"), ""),
            ("# report -> 1", "", None, "# report -> 1"),
        ] {
            assert_eq!(ScriptLine::of(text), ScriptLine { question, answer, comment }, "{text}");
        }
    }
}
