//! Three formats of one plugin, up and down.

use alloc::string::{String, ToString};
use alloc::vec;

use serde::{Deserialize, Serialize};

use super::*;
use crate::native::Host;
use crate::{Access, Follows, Oldest, Otherwise, Setup};

/// Since 0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Reads(u8);

/// Since 0.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Wide {
    reads: u32,
}

/// Since 1.0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Each {
    reads: Vec<u32>,
}

impl Format for Reads {
    const SINCE: Version = Version(0, 1);
    type Before = Oldest;
}

impl Format for Wide {
    const SINCE: Version = Version(0, 3);
    type Before = Reads;
}

impl Follows<Reads> for Wide {
    fn up(Reads(reads): Reads) -> Result<Self, Error> {
        Ok(Wide { reads: reads.into() })
    }

    fn down(self) -> Result<Reads, Error> {
        let reads = u8::try_from(self.reads);
        reads.map(Reads).map_err(|_| {
            Error::new(format_args!("versions before 0.3 cannot hold {} reads", self.reads))
        })
    }
}

impl Format for Each {
    const SINCE: Version = Version(1, 0);
    type Before = Wide;
}

impl Follows<Wide> for Each {
    fn up(Wide { reads }: Wide) -> Result<Self, Error> {
        Ok(Each { reads: vec![reads] })
    }

    fn down(self) -> Result<Wide, Error> {
        Ok(Wide { reads: self.reads.iter().sum() })
    }
}

/// A plugin of version 1.2.
struct Counter(Each);

impl Plugin for Counter {
    fn new(_: &Setup) -> Result<Self, Error> {
        Ok(Counter(Each { reads: vec![] }))
    }

    fn rdmsr(&mut self, _: Access) -> Result<u64, Otherwise> {
        Ok(0)
    }
}

impl Exported for Counter {
    const VERSION: Version = Version(1, 2);
}

impl Versioned for Counter {
    type State = Each;

    fn state(&self) -> Each {
        self.0.clone()
    }

    fn take_over(&mut self, state: Each) -> Result<(), Error> {
        self.0 = state;
        Ok(())
    }
}

fn counter(reads: &[u32]) -> Counter {
    Counter(Each { reads: reads.into() })
}

#[test]
fn every_older_state_comes_up() {
    let host = Host::fresh();
    for (saved, expected) in [
        (host.forge(&Reads(7), "0.1.0"), &[7][..]),
        (host.forge(&Reads(7), "0.2.9"), &[7]),
        (host.forge(&Wide { reads: 700 }, "0.3.0"), &[700]),
        (host.forge(&Wide { reads: 700 }, "0.10.0-alpha+5"), &[700]),
        (host.forge(&Each { reads: vec![1, 2] }, "1.0.0"), &[1, 2]),
        (host.forge(&Each { reads: vec![1, 2] }, "1.2.99"), &[1, 2]),
    ] {
        let (mut new, saved) = (counter(&[]), saved.unwrap());
        new.restore(&saved).unwrap();
        assert_eq!(new.0.reads, expected, "{saved:?}");
    }
}

#[test]
fn every_older_version_gets_what_it_would_have_saved() {
    let host = Host::fresh();
    for (older, expected) in [
        ("0.1.0", host.forge(&Reads(7), "0.1.0")),
        ("0.2.5", host.forge(&Reads(7), "0.2.5")),
        ("0.3.1", host.forge(&Wide { reads: 7 }, "0.3.1")),
        ("0.99.0", host.forge(&Wide { reads: 7 }, "0.99.0")),
        ("1.0.0", host.forge(&Each { reads: vec![3, 4] }, "1.0.0")),
        ("1.2.0", host.forge(&Each { reads: vec![3, 4] }, "1.2.0")),
    ] {
        assert_eq!(host.save_for(&counter(&[3, 4]), older), expected, "{older}");
    }
}

#[test]
fn an_unknown_version_is_refused_in_either_direction() {
    let host = Host::fresh();
    let refusal = |version: &str| {
        let saved = host.forge(&Each { reads: vec![] }, version).unwrap();
        counter(&[]).restore(&saved).unwrap_err().to_string()
    };
    for newer in ["1.3.0", "2.0.0", "1.10.0"] {
        let error = refusal(newer);
        assert!(error.contains(newer) && error.contains("this is 1.2"), "{error}");
    }
    for older in ["0.0.9", "0.0.0"] {
        let error = refusal(older);
        assert!(error.contains(older) && error.contains("older than 0.1"), "{error}");
        let error = host.save_for(&counter(&[]), older).unwrap_err().to_string();
        assert!(error.contains(older) && error.contains("older than 0.1"), "{error}");
    }
    for none in ["", "1", "one.two", "4294967296.0", "-1.0", "1..2"] {
        assert!(refusal(none).contains("is no version"), "{none}");
        assert!(host.save_for(&counter(&[]), none).is_err(), "{none}");
    }
}

#[test]
fn a_state_that_an_older_version_cannot_hold_is_refused_with_the_reason() {
    let host = Host::fresh();
    let error = host.save_for(&counter(&[200, 100]), "0.2.0").unwrap_err().to_string();
    assert_eq!(error, "versions before 0.3 cannot hold 300 reads");
    host.save_for(&counter(&[200, 100]), "0.3.0").unwrap();
}

#[test]
fn a_state_of_another_form_is_refused_with_its_version() {
    let host = Host::fresh();
    let saved = host.forge(&String::from("seven"), "0.1.0").unwrap();
    let error = counter(&[]).restore(&saved).unwrap_err().to_string();
    assert!(error.contains("version 0.1.0"), "{error}");
}
