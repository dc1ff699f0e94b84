//! The fenced blocks of a page, and what the comments before them say.
//!
//! | comment | the block |
//! |---|---|
//! | `<!-- file: NAME -->` | is a file of the reader's, which later commands use |
//! | `<!-- plugin: NAME.wasm -->` | is WebAssembly text, which becomes that file |
//! | `<!-- from: PATH -->` | is a part of that file, of the reader or of the workspace |
//! | `<!-- part of a profile -->`, `<!-- part of a manifest -->` | is read as one |
//! | `<!-- exits with: N -->` | is a session whose last command ends with that code |
//! | `<!-- not run: REASON -->` | is only shown; a test that covers it is named as `FILE.rs::NAME` |
//! | `<!-- picture -->` | is drawn in text |
//!
//! A `console` block needs none. Blocks that come from the code, between
//! `<!-- generated: NAME -->` and `<!-- end of NAME -->`, are held against it
//! elsewhere.

/// A fenced block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The line of its fence, from 1.
    pub(crate) line: usize,
    /// What stands behind the fence.
    pub(crate) language: String,
    /// The comment in the line before it.
    pub(crate) comment: String,
    /// What is in it.
    pub(crate) text: String,
}

/// A command of a `console` block and what is printed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) command: String,
    pub(crate) output: Vec<String>,
}

/// The blocks of a page that a reader could try.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut before = "";
    let mut is_generated = false;
    let mut lines = (1..).zip(page.lines());
    while let Some((number, line)) = lines.next() {
        is_generated |= line.starts_with("<!-- generated: ");
        is_generated &= !line.starts_with("<!-- end of ");
        let Some(language) = line.trim_start().strip_prefix("```") else {
            before = line;
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let inside = lines.by_ref().map(|(_, line)| line).take_while(|l| l.trim() != "```");
        let inside = inside.map(|line| format!("{}\n", line.get(indent..).unwrap_or_default()));
        let block = Block {
            line: number,
            language: language.trim().to_owned(),
            text: inside.collect(),
            comment: comment(before).unwrap_or_default().to_owned(),
        };
        if !is_generated && block.comment != "picture" {
            blocks.push(block);
        }
        before = "";
    }
    blocks
}

fn comment(line: &str) -> Option<&str> {
    Some(line.trim().strip_prefix("<!--")?.strip_suffix("-->")?.trim())
}

impl Block {
    /// What the comment says behind `key: `.
    pub(crate) fn said(&self, key: &str) -> Option<&str> {
        self.comment.strip_prefix(key)?.strip_prefix(':').map(str::trim)
    }

    /// The tests that the comment names, as `FILE.rs::NAME`: file and name.
    pub(crate) fn tests(&self) -> Vec<(&str, &str)> {
        let words = self.comment.split(|c: char| c.is_whitespace() || ",;()`".contains(c));
        let files =
            words.map(|word| word.trim_end_matches('.')).filter(|word| word.contains(".rs"));
        files.map(|word| word.split_once("::").unwrap_or((word, ""))).collect()
    }

    /// The commands of a `console` block.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        let mut goes_on = false;
        for line in self.text.lines() {
            let last = steps.last_mut();
            match (line.strip_prefix("$ "), last) {
                (_, Some(step)) if goes_on => {
                    step.command += &format!("\n{}", line.trim_start_matches("> "));
                    goes_on = line.ends_with('\\');
                }
                (Some(command), _) => {
                    steps.push(Step { command: command.to_owned(), output: Vec::new() });
                    goes_on = command.ends_with('\\');
                }
                (None, Some(step)) => step.output.push(line.to_owned()),
                (None, None) => panic!("line {}: a session begins with `$ `", self.line),
            }
        }
        steps
    }
}

/// Stands for anything.
const ANYTHING: &str = "[…]";

/// Whether these lines are what is expected. Spaces count as one: columns move
/// with the figures in them.
pub(crate) fn is_as_expected(expected: &[String], lines: &[&str]) -> bool {
    let Some((first, rest)) = expected.split_first() else { return lines.is_empty() };
    if first.trim() == ANYTHING {
        return (0..=lines.len())
            .any(|skipped| lines.get(skipped..).is_some_and(|left| is_as_expected(rest, left)));
    }
    match lines.split_first() {
        Some((line, left)) => is_line(first, line) && is_as_expected(rest, left),
        None => false,
    }
}

fn is_line(expected: &str, line: &str) -> bool {
    let bare = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (expected, line) = (bare(expected), bare(line));
    let pieces: Vec<&str> = expected.split(ANYTHING).map(str::trim).collect();
    let [first, between @ .., last] = pieces.as_slice() else { return expected == line };
    let Some(mut left) = line.strip_prefix(first) else { return false };
    for piece in between {
        match left.split_once(*piece) {
            Some((_, rest)) => left = rest,
            None => return false,
        }
    }
    left.ends_with(last)
}

/// Tests of the above: a page that is wrong must be found to be.
pub(crate) fn checks() -> Vec<(&'static str, fn())> {
    vec![
        ("blocks_are_found", blocks_are_found),
        ("blocks_that_are_not_tried_are_left_out", blocks_that_are_not_tried_are_left_out),
        ("tests_are_named", tests_are_named),
        ("sessions_are_read", sessions_are_read),
        ("output_is_compared", output_is_compared),
    ]
}

fn blocks_are_found() {
    let page =
        "a\n<!-- file: x -->\n```toml\nb = 1\n```\n\n```text\n```\n- c\n  ```rust\n  d\n  ```\n";
    let block = |line, language: &str, comment: &str, text: &str| Block {
        line,
        language: language.to_owned(),
        comment: comment.to_owned(),
        text: text.to_owned(),
    };
    let expected = [
        block(3, "toml", "file: x", "b = 1\n"),
        block(7, "text", "", ""),
        block(10, "rust", "", "d\n"),
    ];
    assert_eq!(blocks(page), expected);
    let [first, ..] = &expected;
    assert_eq!((first.said("file"), first.said("from")), (Some("x"), None));
}

fn blocks_that_are_not_tried_are_left_out() {
    let page = "<!-- generated: x -->\n```text\n```\n<!-- end of x -->\n<!-- picture -->\n```text\n```\n\
                ```text\na\n```\n";
    let lines: Vec<usize> = blocks(page).iter().map(|block| block.line).collect();
    assert_eq!(lines, [8]);
}

fn tests_are_named() {
    let page =
        "<!-- not run: a b; tests/c.rs::d has it, (e/f.rs::g) too, h.rs. -->\n```text\n```\n";
    let blocks = blocks(page);
    let tests = blocks.first().map(Block::tests).unwrap_or_default();
    assert_eq!(tests, [("tests/c.rs", "d"), ("e/f.rs", "g"), ("h.rs", "")]);
}

fn sessions_are_read() {
    let page = "```console\n$ a \\\n> b\nc\n[…]\n$ d\n```\n";
    let step = |command: &str, output: &[&str]| Step {
        command: command.to_owned(),
        output: output.iter().map(|&line| line.to_owned()).collect(),
    };
    let blocks = blocks(page);
    let steps = blocks.first().map(Block::steps).unwrap_or_default();
    assert_eq!(steps, [step("a \\\nb", &["c", "[…]"]), step("d", &[])]);
}

fn output_is_compared() {
    let is = |expected: &str, output: &str| {
        let expected: Vec<String> = expected.lines().map(str::to_owned).collect();
        is_as_expected(&expected, &output.lines().collect::<Vec<_>>())
    };
    for (expected, output) in [
        ("", ""),
        ("a  b\nc", "a b\nc"),
        ("[…]", ""),
        ("[…]\nb\n[…]", "a\nb\nb\nc"),
        ("[…]\nb", "b\nb"),
        ("a […] c", "a b c"),
        ("a […]", "a"),
        ("[…] b […] d", "a b c d"),
    ] {
        assert!(is(expected, output), "{output:?} is no {expected:?}");
    }
    for (expected, output) in [
        ("", "a"),
        ("a", ""),
        ("a", "a\nb"),
        ("a b", "ab"),
        ("[…]\nb", "b\nc"),
        ("a […] c", "a c b"),
        ("[…] b […] b", "a b"),
    ] {
        assert!(!is(expected, output), "{output:?} is taken for {expected:?}");
    }
}
