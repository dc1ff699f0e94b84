//! The tables as text: rows, what their continuation lines add, and what must hold.

use std::collections::BTreeMap;

/// One MSR: a row, or one of the MSRs of a row that is a range.
#[derive(Clone, Default)]
pub(crate) struct Row {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) vendor: String,
    pub(crate) access: String,
    pub(crate) reserved: Option<u64>,
    pub(crate) scope: String,
    pub(crate) kvm: String,
    pub(crate) host: Option<String>,
    pub(crate) note: Option<String>,
    pub(crate) wanted: Option<String>,
    pub(crate) source: String,
}

/// What has been read so far.
pub(crate) struct Table {
    sources: BTreeMap<String, String>,
    rows: BTreeMap<u32, (Row, String)>,
    also: Vec<(u32, String, String)>,
}

impl Table {
    pub(crate) fn new(sources: &str) -> Self {
        let lines = sources.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.filter_map(|line| line.split_once(' '));
        let sources = pairs.map(|(key, text)| (key.to_owned(), text.trim().to_owned()));
        Table { sources: sources.collect(), rows: BTreeMap::new(), also: Vec::new() }
    }

    /// Adds the rows of a file.
    pub(crate) fn read(&mut self, file: &str, text: &str) -> Result<(), String> {
        let mut vendor = String::new();
        let mut source = String::new();
        let mut lines = text.lines().enumerate().peekable();
        while let Some((number, line)) = lines.next() {
            let place = format!("msr-table/data/{file}:{}", number + 1);
            let at = |what: String| format!("{place}: {what}");
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] => continue,
                [first, ..] if first.starts_with('#') => continue,
                ["vendor", key] => vendor = (*key).to_owned(),
                ["source", key] => source = self.source(key).map_err(at)?,
                ["also", index, name] => {
                    self.also.push((number_of(index).map_err(at)?, (*name).to_owned(), place));
                }
                [range, name, access, scope, kvm, aliases @ ..] => {
                    let mut row = Row {
                        name: (*name).to_owned(),
                        aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
                        vendor: vendor.clone(),
                        access: (*access).to_owned(),
                        scope: (*scope).to_owned(),
                        kvm: kvm_text(kvm).map_err(at)?,
                        source: source.clone(),
                        ..Row::default()
                    };
                    let mut of_first = Vec::new();
                    while let Some((_, more)) =
                        lines.next_if(|(_, line)| line.starts_with(' ') && !line.trim().is_empty())
                    {
                        let (key, value) = more.trim().split_once(' ').unwrap_or((more.trim(), ""));
                        let value = value.trim().to_owned();
                        match key {
                            "vendor" => row.vendor = value,
                            "source" => row.source = self.source(&value).map_err(at)?,
                            "host" => row.host = Some(value),
                            "note" => row.note = Some(value),
                            "for" => row.wanted = Some(value),
                            "first" => of_first = value.split(' ').map(str::to_owned).collect(),
                            "reserved" => {
                                let hex = value.strip_prefix("0x").unwrap_or(&value);
                                let bits = u64::from_str_radix(hex, 16);
                                row.reserved = Some(bits.map_err(|error| at(error.to_string()))?);
                            }
                            _ => return Err(at(format!("`{key}` is no attribute of an MSR"))),
                        }
                    }
                    self.add(range, &row, &of_first, &place).map_err(at)?;
                }
                _ => return Err(at("a row has index, name, access, scope and kvm".to_owned())),
            }
        }
        Ok(())
    }

    fn source(&self, key: &str) -> Result<String, String> {
        let found = self.sources.get(key).cloned();
        found.ok_or_else(|| format!("data/sources.txt has no `{key}`"))
    }

    /// Adds an MSR, or each MSR of a range such as `0x400-0x47c/4`.
    fn add(
        &mut self,
        range: &str,
        row: &Row,
        of_first: &[String],
        place: &str,
    ) -> Result<(), String> {
        let (ends, stride) = range.split_once('/').unwrap_or((range, "1"));
        let (first, last) = ends.split_once('-').unwrap_or((ends, ends));
        let (first, last) = (number_of(first)?, number_of(last)?);
        let stride: usize =
            stride.parse().map_err(|_| format!("`{range}`: a stride is a number"))?;
        if first != last && !row.name.contains('{') {
            return Err(format!("`{range}`: a range's name has its number, such as NAME{{0}}"));
        }
        for (at, index) in (first..=last).step_by(stride).enumerate() {
            let mut one = Row { index, name: numbered(&row.name, at)?, ..row.clone() };
            let aliases = row.aliases.iter().map(|alias| numbered(alias, at));
            one.aliases = aliases.collect::<Result<_, _>>()?;
            if at == 0 {
                one.aliases.extend_from_slice(of_first);
            }
            if let Some((other, there)) = self.rows.insert(index, (one, place.to_owned())) {
                return Err(format!("{index:#x} is {} at {there}", other.name));
            }
        }
        Ok(())
    }

    /// The rows in order, if names and words are what they must be.
    pub(crate) fn finish(mut self) -> Result<Vec<Row>, String> {
        for (index, name, place) in self.also {
            let row = self.rows.get_mut(&index);
            let (row, _) = row.ok_or_else(|| format!("{place}: no row has {index:#x}"))?;
            row.aliases.push(name);
        }
        let mut names: BTreeMap<String, u32> = BTreeMap::new();
        for (row, place) in self.rows.values() {
            let at = |what: String| Err(format!("{place}: {what}"));
            for name in std::iter::once(&row.name).chain(&row.aliases) {
                if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                    || !name.starts_with(|first: char| first.is_ascii_alphabetic())
                {
                    return at(format!("`{name}` is no name: letters, digits and `_`"));
                }
                if let Some(other) = names.insert(name.to_ascii_lowercase(), row.index) {
                    return at(format!("{other:#x} has the name {name} too"));
                }
            }
            for (word, known) in [
                (&row.vendor, &["intel", "amd", "both", "hyperv", "kvm", "other"][..]),
                (&row.access, &["r", "w", "rw"]),
                (&row.scope, &["thread", "core", "module", "package", "vm", "-"]),
            ] {
                if !known.contains(&word.as_str()) {
                    return at(format!("`{word}` is none of {}", known.join(", ")));
                }
            }
        }
        Ok(self.rows.into_values().map(|(row, _)| row).collect())
    }
}

pub(crate) fn number_of(text: &str) -> Result<u32, String> {
    let hex =
        text.strip_prefix("0x").ok_or_else(|| format!("`{text}`: an index begins with 0x"))?;
    u32::from_str_radix(hex, 16).map_err(|error| format!("`{text}`: {error}"))
}

/// The name of the MSR that is `at` places behind the first: `{3}` stands for 3 + `at`.
fn numbered(name: &str, at: usize) -> Result<String, String> {
    let Some((before, rest)) = name.split_once('{') else { return Ok(name.to_owned()) };
    let (number, after) = rest.split_once('}').ok_or_else(|| format!("`{name}`: no }}"))?;
    let number: usize = number.parse().map_err(|_| format!("`{name}`: {{0}} has a number"))?;
    Ok(format!("{before}{}{after}", number + at))
}

/// `Kvm` as Rust, from `yes`, `no`, `stub`, a word, or a CPUID bit such as `7.0.edx[29]`.
fn kvm_text(word: &str) -> Result<String, String> {
    let condition = match word {
        "yes" => return Ok("Kvm::Yes".to_owned()),
        "no" => return Ok("Kvm::No".to_owned()),
        "stub" => return Ok("Kvm::Stub".to_owned()),
        "pmu" => "the vCPU has a PMU in CPUID".to_owned(),
        "mce" => "the VMM set up machine checks with this bank".to_owned(),
        "hyperv" => "CPUID offers Hyper-V's interface".to_owned(),
        "synic" => "the VMM turned on Hyper-V's interrupt controller".to_owned(),
        "vmx" => "CPUID.1:ECX[5], VMX, is set".to_owned(),
        "svm" => "CPUID.80000001:ECX[2], SVM, is set".to_owned(),
        "smm" => "KVM has SMM".to_owned(),
        "intel" => "the host's CPU is Intel's".to_owned(),
        "x2apic" => "the local APIC is in x2APIC mode".to_owned(),
        bit => {
            let bad = || format!("`{bit}` is neither yes, no, stub, a condition nor a CPUID bit");
            let (place, number) =
                bit.strip_suffix(']').and_then(|b| b.split_once('[')).ok_or_else(bad)?;
            number.parse::<u8>().map_err(|_| bad())?;
            let parts: Vec<&str> = place.split('.').collect();
            match parts.as_slice() {
                ["pv"] => {
                    format!("CPUID.40000001:EAX[{number}] is set, or the VMM does not enforce it")
                }
                [leaf, register] => {
                    format!(
                        "CPUID.{}:{}[{number}] is set",
                        leaf.to_uppercase(),
                        register.to_uppercase()
                    )
                }
                [leaf, sub, register] => format!(
                    "CPUID.({},{sub}):{}[{number}] is set",
                    leaf.to_uppercase(),
                    register.to_uppercase()
                ),
                _ => return Err(bad()),
            }
        }
    };
    Ok(format!("Kvm::If({condition:?})"))
}
