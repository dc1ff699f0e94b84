//! Parts of the documents that come from the code, between
//! `<!-- generated: NAME -->` and `<!-- end of NAME -->`.

#![expect(clippy::panic, reason = "called by tests, which fail by panicking")]

use std::env;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Tests of one program run in parallel and may write the same page.
static WRITING: Mutex<()> = Mutex::new(());

/// Compares a part of a document with `text`, which the code generates; with
/// `BLESS=1` writes `text` there. `page` is relative to the workspace.
///
/// # Panics
/// If the two differ: tests call this.
#[track_caller]
pub fn hold(page: &str, name: &str, text: &str) {
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
    let committed = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{page}: {error}"));
    let Some(current) = with_part(&committed, name, text) else {
        panic!("{page} has no lines `<!-- generated: {name} -->` and `<!-- end of {name} -->`");
    };
    write_or_compare(&path, page, &committed, &current);
}

/// The same for a whole file that the code generates.
///
/// # Panics
/// If the two differ.
#[track_caller]
pub fn hold_file(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let committed = fs::read_to_string(&path).unwrap_or_default();
    write_or_compare(&path, file, &committed, text);
}

/// The text of a file that comes from the code, a path from the workspace.
///
/// # Panics
/// If it cannot be read: it is what a test calls.
#[track_caller]
pub fn committed(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[track_caller]
fn write_or_compare(path: &Path, name: &str, committed: &str, current: &str) {
    if env::var_os("BLESS").is_some() {
        fs::write(path, current).unwrap_or_else(|error| panic!("{name}: {error}"));
    } else if let Some((old, new)) = first_difference(committed, current) {
        panic!(
            "{name} is not what the code says; `cargo xtask book --bless` writes it anew\n \
             committed: {old}\n from code: {new}"
        );
    }
}

/// `document` with the part of this name replaced.
fn with_part(document: &str, name: &str, text: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- generated: {name} -->\n"), format!("<!-- end of {name} -->"));
    let (before, rest) = document.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{}\n\n{end}{after}", text.trim()))
}

fn first_difference<'a>(old: &'a str, new: &'a str) -> Option<(&'a str, &'a str)> {
    let (mut old, mut new) = (old.lines(), new.lines());
    loop {
        match (old.next(), new.next()) {
            (None, None) => return None,
            (a, b) if a == b => {}
            (a, b) => return Some((a.unwrap_or("(the end)"), b.unwrap_or("(the end)"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_replaced_and_the_rest_kept() {
        let page = "a\n<!-- generated: x -->\nold\n<!-- end of x -->\nb\n";
        let expected = "a\n<!-- generated: x -->\n\nnew\n\n<!-- end of x -->\nb\n";
        assert_eq!(with_part(page, "x", "new\n").as_deref(), Some(expected));
        assert_eq!(with_part(expected, "x", "\nnew").as_deref(), Some(expected));
        assert_eq!(with_part(page, "y", "new"), None);
    }

    #[test]
    fn the_first_difference_is_told() {
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some(("b", "c")));
        assert_eq!(first_difference("a\n", "a\nc\n"), Some(("(the end)", "c")));
        assert_eq!(first_difference("a\n", "a\n"), None);
    }
}
