//! The version of the host's kernel, which decides what KVM can do.

use std::fmt;
use std::str::FromStr;

/// Major and minor version of a Linux kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl FromStr for KernelVersion {
    type Err = String;

    /// Reads `6.12`, or the longer form that `uname -r` prints.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok(KernelVersion { major, minor }),
            _ => Err(format!("`{text}` is not a kernel version; write it like \"6.12\"")),
        }
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_compare_as_numbers() {
        let version = |text: &str| text.parse::<KernelVersion>().unwrap();
        assert!(version("6.2.1-amd64") < version("6.12"));
        assert!(version("6.1.0-49-cloud-amd64") < version("6.2"));
    }
}
