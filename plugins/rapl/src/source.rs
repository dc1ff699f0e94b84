//! Where the energy of the domains comes from: which sources are available, and
//! which domains they have.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;
use wasmsr_sdk::Error;

use crate::counter::Counter;
use crate::domain::Domain;
use crate::energy::EnergyUnit;
use crate::zone::{Power, Source};

/// The kinds of sources, in the order in which they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// The files of the host's powercap, which account for each processor's
    /// units.
    Powercap,
    /// The host's own MSRs.
    HostMsr,
    /// The configured powers.
    Model,
}

/// The powers of the modelled domains.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Model {
    package: Power,
    core: Option<Power>,
    uncore: Option<Power>,
    dram: Option<Power>,
}

/// As many as the fuel of an access is enough for.
const MOST_PACKAGES: usize = 8;

/// The configuration's keys about sources.
pub(crate) struct Ask {
    /// `None` for the first available one.
    pub(crate) kind: Option<Kind>,
    pub(crate) model: Option<Model>,
    /// `None` for all available ones.
    pub(crate) domains: Option<Vec<Domain>>,
    /// A CPU of each package of the host.
    pub(crate) packages: Vec<u32>,
    /// Unit of the memory's MSR in the host, if it has its own.
    pub(crate) dram_unit: Option<EnergyUnit>,
}

/// The chosen kind, and its domains.
pub(crate) fn open(ask: &Ask) -> Result<(Kind, Vec<(Domain, Source)>), Error> {
    ask.check()?;
    let kind = match ask.kind {
        Some(kind) => kind,
        None => ask.first_available()?,
    };
    let mut opened = Vec::new();
    for domain in Domain::ALL {
        let listed = ask.domains.as_ref().map(|domains| domains.contains(&domain));
        if listed == Some(false) {
            continue;
        }
        match ask.source(kind, domain) {
            Some(source) => opened.push((domain, source)),
            None if domain == Domain::Package => {
                return Err(Error::in_config("source", ask.why_there_is_no(kind)));
            }
            None if listed == Some(true) => {
                return Err(Error::in_config("domains", format!("{kind} has no `{domain}`")));
            }
            None => {}
        }
    }
    Ok((kind, opened))
}

impl Ask {
    fn check(&self) -> Result<(), Error> {
        let packages = self.packages.len();
        if !(1..=MOST_PACKAGES).contains(&packages) {
            return Err(Error::in_config(
                "host-packages",
                format!(
                    "{packages} CPUs; list one of each package of the host, at most \
                     {MOST_PACKAGES}"
                ),
            ));
        }
        if self.domains.as_ref().is_some_and(|domains| !domains.contains(&Domain::Package)) {
            return Err(Error::in_config(
                "domains",
                "`package` is missing; add it, as no RAPL is without it",
            ));
        }
        self.model.as_ref().map_or(Ok(()), Model::check)
    }

    fn first_available(&self) -> Result<Kind, Error> {
        let kinds = [Kind::Powercap, Kind::HostMsr, Kind::Model];
        let available = kinds.into_iter().filter_map(|kind| {
            self.source(kind, Domain::Package).map(|source| (kind, source.counts()))
        });
        let available: Vec<(Kind, bool)> = available.collect();
        // Counters at 0 are better than none: `wasmsr check` has them.
        let chosen = available.iter().find(|(_, counts)| *counts).or(available.first());
        chosen.map(|(kind, _)| *kind).ok_or_else(|| {
            Error::new(
                "no source of energy: grant \
                 `host-file:package=/sys/class/powercap/intel-rapl:0/energy_uj` or \
                 `host-msr:0x606-0x641` (AMD: `host-msr:0xc0010299-0xc001029b`), which a host \
                 without RAPL does not have, or configure `model`",
            )
        })
    }

    /// The source of a domain, if there is one.
    fn source(&self, kind: Kind, domain: Domain) -> Option<Source> {
        match kind {
            Kind::Powercap => powercap(domain).map(Source::Host),
            Kind::HostMsr => self.host_msrs(domain).map(Source::Host),
            Kind::Model => self.model.as_ref()?.power(domain).map(Source::Model),
        }
    }

    fn host_msrs(&self, domain: Domain) -> Option<Vec<Counter>> {
        let unit = self.dram_unit.filter(|_| domain == Domain::Dram);
        let intels = |&cpu| Counter::of_msr(cpu, domain.energy_status(), unit).ok();
        let counters: Option<Vec<Counter>> = self.packages.iter().map(intels).collect();
        match domain {
            // AMD's other counter is that of a single core.
            Domain::Package => counters.or_else(|| {
                self.packages.iter().map(|&cpu| Counter::of_amds_package(cpu).ok()).collect()
            }),
            _ => counters,
        }
    }

    fn why_there_is_no(&self, kind: Kind) -> String {
        match kind {
            Kind::Powercap => "the file `package` cannot be read; grant \
                 `host-file:package=/sys/class/powercap/intel-rapl:0/energy_uj`, and run as a \
                 user who may read it"
                .into(),
            Kind::HostMsr => format!(
                "MSRs 0x606 and 0x611 cannot be read on CPUs {:?}; grant `host-msr:0x606-0x641` \
                 (AMD: `host-msr:0xc0010299-0xc001029b`), and load the kernel module `msr` on a \
                 host that has RAPL",
                self.packages
            ),
            Kind::Model => "it is \"model\", and the key `model` is missing".into(),
        }
    }
}

/// The counters of up to two packages.
fn powercap(domain: Domain) -> Option<Vec<Counter>> {
    let first = Counter::of_file(domain.name().into()).ok()?;
    let second = Counter::of_file(format!("{domain}-1")).ok();
    Some([Some(first), second].into_iter().flatten().collect())
}

impl Model {
    fn power(&self, domain: Domain) -> Option<Power> {
        match domain {
            Domain::Package => Some(self.package),
            Domain::Core => self.core,
            Domain::Uncore => self.uncore,
            Domain::Dram => self.dram,
        }
    }

    /// The power planes are parts of the package.
    fn check(&self) -> Result<(), Error> {
        let planes = [self.core, self.uncore];
        let sum = |of: fn(&Power) -> u32| -> u64 {
            planes.iter().flatten().map(|power| u64::from(of(power))).sum()
        };
        for (key, of) in
            [("idle-mw", (|p| p.idle_mw) as fn(&Power) -> u32), ("vcpu-mw", |p| p.vcpu_mw)]
        {
            let (planes, package) = (sum(of), of(&self.package));
            if planes > package.into() {
                return Err(Error::in_config(
                    format!("model.package.{key}"),
                    format!("{package} is less than the {planes} of `core` and `uncore` in it"),
                ));
            }
        }
        Ok(())
    }
}

impl core::fmt::Display for Kind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Kind::Powercap => "the host's powercap",
            Kind::HostMsr => "the host's MSRs",
            Kind::Model => "the model",
        })
    }
}
