//! The metrics of several VMs as one text: each series gets the label `vm`, and each
//! family its head once.

use std::collections::BTreeMap;

/// The metrics of a VM, as it tells them.
pub(crate) struct Told {
    /// What the label says.
    pub(crate) vm: String,
    pub(crate) text: String,
}

/// A metric with its samples of all VMs.
#[derive(Default)]
struct Family {
    help: String,
    kind: String,
    samples: Vec<String>,
}

/// One text for Prometheus. Lines that are no metrics are left out.
pub(crate) fn merged(all: &[Told]) -> String {
    let mut names: Vec<String> = Vec::new();
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for Told { vm, text } in all {
        // The help that came last, and the family whose samples follow.
        let (mut help, mut current) = (None, None);
        for line in text.lines().filter(|line| !line.contains(char::is_control)) {
            if let Some((name, text)) = head(line, "# HELP ") {
                help = Some((name, text));
                current = None;
            } else if let Some((name, kind)) = head(line, "# TYPE ") {
                let family = families.entry(name.to_owned()).or_insert_with(|| {
                    names.push(name.to_owned());
                    let help = help.filter(|(of, _)| *of == name).map(|(_, text)| text);
                    let help = help.unwrap_or_default().to_owned();
                    Family { help, kind: kind.to_owned(), samples: Vec::new() }
                });
                // Another version may have another kind: the first one counts.
                current = (family.kind == kind).then_some(name);
            } else if let Some(name) = current.filter(|name| is_of(line, name))
                && let Some(family) = families.get_mut(name)
                && let Some(sample) = labelled(line, vm)
            {
                family.samples.push(sample);
            }
        }
    }
    let mut text = String::new();
    for name in names {
        let Some(Family { help, kind, samples }) = families.remove(&name) else { continue };
        if !samples.is_empty() {
            text += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
            text += &samples.concat();
        }
    }
    text
}

/// Name and rest of a line of a family's head.
fn head<'a>(line: &'a str, mark: &str) -> Option<(&'a str, &'a str)> {
    let (name, rest) = line.strip_prefix(mark)?.split_once(' ')?;
    let is_name = |name: &str| {
        !name.starts_with(|first: char| first.is_ascii_digit())
            && name.chars().all(|it| it.is_ascii_alphanumeric() || matches!(it, '_' | ':'))
    };
    (!name.is_empty() && is_name(name)).then_some((name, rest))
}

/// Whether a line is a sample of this family.
fn is_of(line: &str, family: &str) -> bool {
    let name = line.split(['{', ' ']).next().unwrap_or_default();
    let suffix = name.strip_prefix(family);
    matches!(suffix, Some("" | "_bucket" | "_sum" | "_count"))
}

/// A sample with one label more.
fn labelled(line: &str, vm: &str) -> Option<String> {
    let at = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(at);
    let vm = vm.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    Some(match rest.strip_prefix('{') {
        Some(rest) if rest.starts_with('}') => format!("{name}{{vm=\"{vm}\"{rest}\n"),
        Some(rest) => format!("{name}{{vm=\"{vm}\",{rest}\n"),
        None => format!("{name}{{vm=\"{vm}\"}}{rest}\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(vm: &str, text: &str) -> Told {
        Told { vm: vm.to_owned(), text: text.to_owned() }
    }

    const HEAD: &str = "# HELP a_total Of a.\n# TYPE a_total counter\n";

    #[test]
    fn families_have_one_head_and_series_a_label() {
        let first = format!(
            "{HEAD}a_total 1\n# HELP h Of h.\n# TYPE h histogram\nh_bucket{{le=\"1\"}} 2\n\
             h_sum 3\nh_count 4\n"
        );
        let second = format!("{HEAD}a_total{{x=\"y\"}} 5\na_total{{}} 6\n");
        assert_eq!(
            merged(&[told("one", &first), told("t\"wo", &second)]),
            format!(
                "{HEAD}a_total{{vm=\"one\"}} 1\na_total{{vm=\"t\\\"wo\",x=\"y\"}} 5\n\
                 a_total{{vm=\"t\\\"wo\"}} 6\n# HELP h Of h.\n# TYPE h histogram\n\
                 h_bucket{{vm=\"one\",le=\"1\"}} 2\nh_sum{{vm=\"one\"}} 3\nh_count{{vm=\"one\"}} 4\n"
            )
        );
    }

    #[test]
    fn what_is_no_metric_is_left_out() {
        for text in [
            "",
            "garbage",
            "a_total 1\n",
            "# TYPE a_total counter\n",
            "# TYPE a_total counter\nb_total 1\n",
            "# TYPE 1a counter\n1a 1\n",
            "# TYPE a_total counter\na_total \u{1b}[2J\n",
        ] {
            assert_eq!(merged(&[told("x", text)]), "", "{text:?}");
        }
        let other = "# TYPE a_total gauge\na_total 7\n";
        let text = merged(&[told("x", &format!("{HEAD}a_total 1\n")), told("y", other)]);
        assert_eq!(text, format!("{HEAD}a_total{{vm=\"x\"}} 1\n"), "the first kind counts");
    }
}
