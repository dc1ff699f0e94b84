//! Sums up what test harnesses print.

use std::collections::BTreeSet;
use std::fmt;
use std::process::ExitCode;

/// Results of all harnesses that ran so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: usize,
    failed: usize,
    skips: Vec<Skip>,
    /// The tests that were not skipped.
    ran: BTreeSet<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Skip {
    test: String,
    reason: String,
}

impl Tally {
    /// Takes in a line of a harness's output.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
        } else if let Some((test, result)) = test_line(line) {
            let test = test.to_owned();
            match result.strip_prefix("ignored") {
                Some(reason) => {
                    // libtest writes `, REASON`, libtest-mimic ` (REASON)`.
                    let bare = reason.strip_prefix(" (").and_then(|r| r.strip_suffix(')'));
                    let reason = bare.unwrap_or(reason.trim_start_matches([',', ' '])).to_owned();
                    self.skips.push(Skip { test, reason });
                }
                None => {
                    self.ran.insert(test);
                }
            }
        }
    }

    /// Counts a harness that ended without saying how its tests went.
    pub(crate) fn harness_failed(&mut self) {
        self.failed += 1;
    }

    /// Adds the results of a second place where the same tests ran: what ran
    /// in one of the two was not skipped.
    pub(crate) fn add_second_place(&mut self, second: Self) {
        self.passed += second.passed;
        self.failed += second.failed;
        self.skips.retain(|skip| !second.ran.contains(&skip.test));
        let known: BTreeSet<_> = self.skips.iter().map(|skip| &skip.test).collect();
        let is_news = |skip: &Skip| !self.ran.contains(&skip.test) && !known.contains(&skip.test);
        let news: Vec<_> = second.skips.into_iter().filter(is_news).collect();
        self.skips.extend(news);
        self.ran.extend(second.ran);
    }

    pub(crate) fn has_failures(&self) -> bool {
        self.failed > 0
    }

    /// Prints why tests were skipped, and the sums as the last line.
    pub(crate) fn print(&self) {
        for Skip { test, reason } in &self.skips {
            println!("skipped {test}: {reason}");
        }
        println!("{self}");
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        if self.has_failures() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skips, .. } = self;
        write!(f, "{passed} passed, {failed} failed, {} skipped", skips.len())
    }
}

/// `test NAME ... RESULT`
fn test_line(line: &str) -> Option<(&str, &str)> {
    let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    Some((name.trim(), result.trim()))
}

/// The number before `word` in `ok. 3 passed; 0 failed; 1 ignored; ...`.
fn count(counts: &str, word: &str) -> usize {
    let mut words = counts.split([' ', ';']).filter(|word| !word.is_empty()).peekable();
    while let Some(number) = words.next() {
        if words.peek() == Some(&word) {
            return number.parse().unwrap_or(0);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(output: &str) -> Tally {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.read(line));
        tally
    }

    fn skip(test: &str, reason: &str) -> Skip {
        Skip { test: test.to_owned(), reason: reason.to_owned() }
    }

    #[test]
    fn harnesses_are_summed() {
        let tally = tally(
            "test msr::range ... ok\n\
             test msr::map ... FAILED\n\
             test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n\
             test boots  ... ignored (no /dev/kvm)\n\
             test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; finished in 0.10s\n",
        );
        assert_eq!(tally.to_string(), "13 passed, 1 failed, 1 skipped");
        assert_eq!(tally.skips, [skip("boots", "no /dev/kvm")]);
        assert!(tally.has_failures());
    }

    #[test]
    fn what_ran_in_one_of_two_places_was_not_skipped() {
        let mut here = tally(
            "test linux ... ignored, no KVM\n\
             test big ... ignored, no memory\n\
             test only here ... ignored\n\
             test small ... ok\n\
             test result: ok. 1 passed; 0 failed; 3 ignored;\n",
        );
        here.add_second_place(tally(
            "test linux ... ok\n\
             test big ... ignored, no memory\n\
             test small ... ignored, no assembler\n\
             test result: ok. 1 passed; 0 failed; 2 ignored;\n",
        ));
        assert_eq!(here.to_string(), "2 passed, 0 failed, 2 skipped");
        assert_eq!(here.skips, [skip("big", "no memory"), skip("only here", "")]);
    }

    #[test]
    fn other_output_counts_nothing() {
        assert_eq!(tally("running 3 tests\ntest result: strange\n\ntest\n"), Tally::default());
    }
}
