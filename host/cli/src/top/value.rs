//! The content of a cell, shortened to what matters if there is no room for all of it.

use crate::terminal::tables;

/// A cell's content.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Count(u64),
    /// Per second.
    Rate(f64),
    /// In percent.
    Share(f64),
    /// In nanoseconds, if it is known.
    Time(Option<u64>),
    /// Units of fuel, if known.
    Fuel(Option<u64>),
}

impl Value {
    /// All of it.
    pub(super) fn whole(&self) -> String {
        match self {
            Value::Text(text) => text.clone(),
            Value::Count(count) | Value::Fuel(Some(count)) => count.to_string(),
            Value::Rate(rate) if *rate < 10.0 => format!("{rate:.1}"),
            Value::Rate(rate) => format!("{rate:.0}"),
            Value::Share(share) => format!("{share:.1}"),
            Value::Time(Some(nanos)) => tables::nanos(*nanos),
            Value::Time(None) | Value::Fuel(None) => "-".to_owned(),
        }
    }

    /// In at most `width` characters: a number keeps its magnitude, a text its start.
    pub(super) fn within(&self, width: usize) -> String {
        let whole = self.whole();
        if whole.chars().count() <= width {
            return whole;
        }
        cut(&self.rounded().unwrap_or(whole), width)
    }

    fn rounded(&self) -> Option<String> {
        match self {
            Value::Count(count) | Value::Fuel(Some(count)) => Some(rounded(*count as f64)),
            Value::Rate(rate) => Some(rounded(*rate)),
            _ => None,
        }
    }

    /// Whether it is a number, which is aligned to the right.
    pub(super) fn is_number(&self) -> bool {
        !matches!(self, Value::Text(_))
    }
}

/// A number with three digits and a unit.
fn rounded(number: f64) -> String {
    let mut scaled = number;
    for unit in ["", "k", "M", "G", "T", "P"] {
        if scaled < 999.5 {
            return three_digits(scaled) + unit;
        }
        scaled /= 1000.0;
    }
    three_digits(scaled) + "E"
}

fn three_digits(number: f64) -> String {
    match number {
        ..9.995 => format!("{number:.2}"),
        9.995..99.95 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

/// The start of a text.
pub(super) fn cut(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        None => text.to_owned(),
        Some(_) => text.chars().take(width.saturating_sub(1)).chain(['…']).take(width).collect(),
    }
}

/// The end of a text, which is the part that tells paths apart.
pub(super) fn cut_front(text: &str, width: usize) -> String {
    let length = text.chars().count();
    match length <= width {
        true => text.to_owned(),
        false => {
            ['…'].into_iter().chain(text.chars().skip(length + 1 - width)).take(width).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_never_loses_its_first_digits() {
        for (value, width, expected) in [
            (Value::Count(9_999_999), 7, "9999999"),
            (Value::Count(100_000_000), 8, "100M"),
            (Value::Count(u64::MAX), 8, "18.4E"),
            (Value::Count(999_999_999), 6, "1.00G"),
            (Value::Rate(9.94), 7, "9.9"),
            (Value::Rate(1_234_567.8), 7, "1234568"),
            (Value::Rate(12_345_678.0), 7, "12.3M"),
            (Value::Rate(1e30), 4, "100…"),
            (Value::Fuel(Some(123_456_789)), 6, "123M"),
            (Value::Fuel(None), 6, "-"),
            (Value::Time(Some(u64::MAX)), 13, "18446744073 s"),
            (Value::Share(100.0), 5, "100.0"),
        ] {
            let text = value.within(width);
            assert_eq!(text, expected, "{value:?} in {width}");
            assert!(text.chars().count() <= width);
        }
    }

    #[test]
    fn a_text_keeps_its_start_and_a_path_its_end() {
        assert_eq!(Value::Text("arch-capabilities".into()).within(8), "arch-ca…");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(cut_front("/srv/vms/vm.toml", 9), "…/vm.toml");
        assert_eq!(cut_front("/vm.toml", 9), "/vm.toml");
        assert_eq!(cut_front("/vm.toml", 0), "");
    }
}
