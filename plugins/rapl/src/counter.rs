//! The host's energy counters.

use alloc::string::String;

use wasmsr_sdk::{MsrIndex, Refused, host, log};

use crate::domain::{AMD_PACKAGE_ENERGY, AMD_POWER_UNIT, POWER_UNIT};
use crate::energy::{EnergyUnit, Picojoules};

/// A counter of one package of the host, and its last reading.
#[derive(Debug, Clone)]
pub(crate) struct Counter {
    place: Place,
    /// `None` before the first reading.
    last: Option<u64>,
    /// Whether its failure has been logged.
    told: bool,
}

/// How a counter is read.
#[derive(Debug, Clone)]
enum Place {
    /// An MSR of this CPU, and its unit.
    Msr { cpu: u32, msr: MsrIndex, unit: EnergyUnit },
    /// A file `energy_uj` of the kernel's powercap, by the name in the profile's
    /// grant.
    File(String),
}

impl Counter {
    /// The MSR on a CPU of the host; `unit` overrides the CPU's own.
    ///
    /// # Errors
    /// [`Refused`] if it cannot be read.
    pub(crate) fn of_msr(
        cpu: u32,
        msr: MsrIndex,
        unit: Option<EnergyUnit>,
    ) -> Result<Self, Refused> {
        let of_cpu = EnergyUnit::of_msr(host::rdmsr_on(cpu, POWER_UNIT)?);
        Self::open(Place::Msr { cpu, msr, unit: unit.unwrap_or(of_cpu) })
    }

    /// The package's MSR on a CPU of a host of AMD's.
    ///
    /// # Errors
    /// [`Refused`] if it cannot be read.
    pub(crate) fn of_amds_package(cpu: u32) -> Result<Self, Refused> {
        let unit = EnergyUnit::of_msr(host::rdmsr_on(cpu, AMD_POWER_UNIT)?);
        Self::open(Place::Msr { cpu, msr: AMD_PACKAGE_ENERGY, unit })
    }

    /// The file of this name.
    ///
    /// # Errors
    /// [`Refused`] if it cannot be read.
    pub(crate) fn of_file(name: String) -> Result<Self, Refused> {
        Self::open(Place::File(name))
    }

    /// Its unit; for a file, the finest unit of any processor.
    pub(crate) fn unit(&self) -> EnergyUnit {
        match &self.place {
            Place::Msr { unit, .. } => *unit,
            Place::File(_) => EnergyUnit::FINEST_USUAL,
        }
    }

    /// Whether the counter really counts.
    pub(crate) fn counts(&self) -> bool {
        match &self.place {
            // No processor counts in whole joules.
            Place::Msr { unit, .. } => *unit != EnergyUnit::JOULE,
            Place::File(_) => self.last.is_some(),
        }
    }

    /// The energy since the last call.
    pub(crate) fn used(&mut self) -> Picojoules {
        let read = self.place.read();
        if !self.told && (!self.counts() || !matches!(read, Ok(Some(_)))) {
            self.told = true;
            log::warn!(
                "{} of the host counts nothing; the guest gets no energy from it",
                self.place
            );
        }
        let Ok(Some(now)) = read else { return Picojoules::default() };
        let last = self.last.replace(now).unwrap_or(now);
        self.place.between(last, now)
    }

    fn open(place: Place) -> Result<Self, Refused> {
        let last = place.read()?;
        Ok(Counter { place, last, told: false })
    }
}

impl Place {
    /// `None` if there is nothing to read, as in an empty file.
    fn read(&self) -> Result<Option<u64>, Refused> {
        match self {
            Place::Msr { cpu, msr, .. } => {
                Ok(Some(host::rdmsr_on(*cpu, *msr)? & u64::from(u32::MAX)))
            }
            Place::File(name) => {
                let mut text = [0; 32];
                let len = host::read_file(name, &mut text)?;
                let text = text.get(..len).unwrap_or_default().trim_ascii();
                if text.is_empty() {
                    return Ok(None);
                }
                let number = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
                number.map(Some).ok_or(Refused)
            }
        }
    }

    /// The energy between two readings.
    fn between(&self, last: u64, now: u64) -> Picojoules {
        match self {
            Place::Msr { unit, .. } => {
                Picojoules::from_units(now.wrapping_sub(last) & u64::from(u32::MAX), *unit)
            }
            // The processor decides where it wraps; the energy since the wrap is
            // certain.
            Place::File(_) => Picojoules::from_micro(now.checked_sub(last).unwrap_or(now)),
        }
    }
}

impl core::fmt::Display for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Place::Msr { cpu, msr, .. } => write!(f, "MSR {msr} on CPU {cpu}"),
            Place::File(name) => write!(f, "file `{name}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;

    use proptest::prelude::*;
    use wasmsr_sdk::native::Host;

    use super::*;

    const ENERGY: MsrIndex = MsrIndex(0x611);

    fn joules(count: u64) -> Picojoules {
        Picojoules::from_micro(count * 1_000_000)
    }

    fn file(host: &Host, text: &str) {
        host.set_host_file("package", text.as_bytes());
    }

    #[test]
    fn an_msr_counts_in_its_cpus_own_unit_and_wraps() {
        let host = Host::fresh();
        host.set_host_cpus(2);
        host.set_host_msr_on(1, POWER_UNIT, 0xa_0e03);
        host.set_host_msr_on(1, ENERGY, 0xffff_ffff);
        assert!(Counter::of_msr(0, ENERGY, None).is_err());
        let mut counter = Counter::of_msr(1, ENERGY, None).unwrap();
        assert_eq!(counter.used(), joules(0));
        // The upper half is reserved.
        host.set_host_msr_on(1, ENERGY, 0xffff_0000_0000_3fff);
        assert_eq!(counter.used(), joules(1));
        assert_eq!(counter.used(), joules(0));
    }

    #[test]
    fn a_unit_may_be_the_memorys_own() {
        let host = Host::fresh();
        host.set_host_msr(POWER_UNIT, 0xa_0e03);
        host.set_host_msr(ENERGY, 0);
        let mut counter = Counter::of_msr(0, ENERGY, EnergyUnit::new(16)).unwrap();
        host.set_host_msr(ENERGY, 1 << 16);
        assert_eq!(counter.used(), joules(1));
    }

    #[test]
    fn a_file_that_wraps_adds_what_it_counted_since() {
        let host = Host::fresh();
        file(&host, "262143000000\n");
        let mut counter = Counter::of_file("package".into()).unwrap();
        file(&host, "262143328850\n");
        assert_eq!(counter.used(), Picojoules::from_micro(328_850));
        file(&host, "5\n");
        assert_eq!(counter.used(), Picojoules::from_micro(5));
    }

    #[test]
    fn what_cannot_be_read_is_refused_at_the_start_and_told_once_later() {
        let host = Host::fresh();
        assert!(Counter::of_file("package".into()).is_err());
        for text in ["x\n", "-1\n", "1 2\n", "18446744073709551616\n"] {
            file(&host, text);
            assert!(Counter::of_file("package".into()).is_err(), "{text}");
        }
        file(&host, "1000000\n");
        let mut counter = Counter::of_file("package".into()).unwrap();
        file(&host, "no number");
        assert_eq!((counter.used(), counter.used()), (joules(0), joules(0)));
        assert_eq!(host.logged().len(), 1);
        assert!(format!("{:?}", host.logged()).contains("file `package` of the host"));
        file(&host, "3000000");
        assert_eq!(counter.used(), joules(2));
    }

    proptest! {
        /// If it is read once per wrap, an MSR of 32 bits loses nothing.
        #[test]
        fn an_msr_that_is_read_often_enough_loses_nothing(
            start: u32,
            steps in prop::collection::vec(any::<u32>(), 0..32),
        ) {
            let host = Host::fresh();
            host.set_host_msr(POWER_UNIT, 0);
            host.set_host_msr(ENERGY, start.into());
            let mut counter = Counter::of_msr(0, ENERGY, None).unwrap();
            let mut total = u64::from(start);
            for step in steps {
                total += u64::from(step);
                host.set_host_msr(ENERGY, total & 0xffff_ffff);
                prop_assert_eq!(counter.used(), joules(step.into()));
            }
        }
    }
}
