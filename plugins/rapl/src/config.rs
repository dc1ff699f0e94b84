//! The package as a profile describes it.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use serde::Deserialize;
use wasmsr_sdk::{Bits64, Error, Setup};

use crate::domain::Domain;
use crate::energy::EnergyUnit;
use crate::limit::Limits;
use crate::meter::Meter;
use crate::source::{self, Kind, Model};
use crate::zone::Zone;
use crate::{Rapl, Vendor};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Config {
    vendor: Option<Vendor>,
    source: Option<Kind>,
    model: Option<Model>,
    domains: Option<Vec<Domain>>,
    host_packages: Option<Vec<u32>>,
    host_dram_energy_unit: Option<u8>,
    #[serde(default = "usual_units")]
    units: Bits64,
    dram_energy_unit: Option<u8>,
    tdp_watts: Option<u32>,
    power_limit: Option<Bits64>,
    #[serde(default = "usual_update")]
    update_ms: u32,
    sample_ms: Option<u32>,
}

/// An eighth of a watt, 15.3 µJ and 977 µs: the defaults of the Intel SDM,
/// volume 3, section 15.10.1.
fn usual_units() -> Bits64 {
    Bits64(0xa_1003)
}

const USUAL_TDP: u32 = 100;

fn usual_update() -> u32 {
    10
}

/// Power units in bits 3:0, energy status units in 12:8, time units in 19:16.
const UNIT_FIELDS: u64 = 0xf_1f0f;

/// Thermal specification power, bits 14:0 of `MSR_PKG_POWER_INFO`, and each of the
/// two limits.
const LARGEST_POWER: u64 = 0x7fff;

/// How long after a reading the next one is due, in milliseconds.
const SAMPLES: core::ops::RangeInclusive<u32> = 100..=3_600_000;
const UPDATES: core::ops::RangeInclusive<u32> = 1..=1000;

/// The package of a configuration.
pub(crate) fn read(setup: &Setup) -> Result<Rapl, Error> {
    let config: Config = setup.config()?;
    let power_unit = config.units.0;
    if power_unit & !UNIT_FIELDS != 0 {
        return Err(Error::in_config(
            "units",
            format!("{} has reserved bits; only {} may be set", config.units, Bits64(UNIT_FIELDS)),
        ));
    }
    let in_range = |key, value, range: core::ops::RangeInclusive<u32>| match range.contains(&value)
    {
        true => Ok(u64::from(value) * 1_000_000),
        false => Err(Error::in_config(
            key,
            format!("{value} is not from {} to {}", range.start(), range.end()),
        )),
    };
    let update_ns = in_range("update-ms", config.update_ms, UPDATES)?;
    let sample_ns = config.sample_ms.map(|ms| in_range("sample-ms", ms, SAMPLES)).transpose()?;
    let energy_unit = EnergyUnit::of_msr(power_unit);
    let dram_unit = exponent("dram-energy-unit", config.dram_energy_unit)?.unwrap_or(energy_unit);
    let spec = power_in_units(config.tdp_watts.unwrap_or(USUAL_TDP), power_unit)?;

    config.check_effects()?;
    let ask = source::Ask {
        kind: config.source,
        model: config.model,
        domains: config.domains,
        packages: config.host_packages.unwrap_or_else(|| vec![0]),
        dram_unit: exponent("host-dram-energy-unit", config.host_dram_energy_unit)?,
    };
    let (kind, opened) = source::open(&ask)?;
    let mut zones = Vec::new();
    for (domain, source) in opened {
        let at_reset = match (domain, config.power_limit) {
            (Domain::Package, Some(Bits64(limit))) => limit,
            (Domain::Package, None) => usual_limits(spec),
            _ => 0,
        };
        let limits = Limits::new(domain, at_reset).ok_or_else(|| {
            Error::in_config(
                "power-limit",
                format!("{} has reserved bits; clear bits 31:24 and 62:56", Bits64(at_reset)),
            )
        })?;
        let power_info = if domain == Domain::Package { spec } else { 0 };
        let unit = if domain == Domain::Dram { dram_unit } else { energy_unit };
        zones.push(Zone::new(limits, power_info, unit, source));
    }
    let from_host = zones.iter().filter_map(Zone::finest_host_unit).max();
    let sample_ns = from_host.map(|unit| sample_ns.unwrap_or_else(|| half_a_wrap_ns(unit)));
    let vendor = config.vendor;
    Ok(Rapl { vendor, kind, power_unit, zones, meter: Meter::new(), update_ns, sample_ns })
}

impl Config {
    /// Keys about what the guest or the source does not have.
    fn check_effects(&self) -> Result<(), Error> {
        let (intels, host_msrs, hosts) = (
            self.vendor == Some(Vendor::Amd),
            matches!(self.source, Some(Kind::Model | Kind::Powercap)),
            self.source == Some(Kind::Model),
        );
        let of_intel = "it is about an MSR of Intel's, which `vendor = \"amd\"` leaves out";
        let of_host_msrs = "it is for `source = \"host-msr\"`, which is not chosen";
        let of_host = "it is about the host's counters, which `source = \"model\"` does not read";
        let useless: Vec<String> = [
            ("power-limit", intels && self.power_limit.is_some(), of_intel),
            ("tdp-watts", intels && self.tdp_watts.is_some(), of_intel),
            ("dram-energy-unit", intels && self.dram_energy_unit.is_some(), of_intel),
            ("sample-ms", hosts && self.sample_ms.is_some(), of_host),
            ("host-packages", host_msrs && self.host_packages.is_some(), of_host_msrs),
            (
                "host-dram-energy-unit",
                host_msrs && self.host_dram_energy_unit.is_some(),
                of_host_msrs,
            ),
        ]
        .into_iter()
        .filter(|(_, given, _)| *given)
        .map(|(key, _, why)| format!("config key `{key}`: {why}; take it out"))
        .collect();
        match useless.is_empty() {
            true => Ok(()),
            false => Err(Error::new(useless.join("; "))),
        }
    }
}

fn exponent(key: &str, exponent: Option<u8>) -> Result<Option<EnergyUnit>, Error> {
    let unit = |exponent| {
        EnergyUnit::new(exponent).ok_or_else(|| {
            let most = EnergyUnit::MAX;
            Error::in_config(key, format!("{exponent} is more than {most}; n means 2^-n J"))
        })
    };
    exponent.map(unit).transpose()
}

/// Watts in the register's units of 2⁻ᴾᵁ W.
fn power_in_units(watts: u32, power_unit: u64) -> Result<u64, Error> {
    let exponent = power_unit & 0xf;
    let power = u64::from(watts) << exponent;
    if !(1..=LARGEST_POWER).contains(&power) {
        let most = LARGEST_POWER >> exponent;
        return Err(Error::in_config(
            "tdp-watts",
            format!("{watts} is not from 1 to {most}, what 15 bits of 2^-{exponent} W hold"),
        ));
    }
    Ok(power)
}

/// The limits as firmware sets them on many machines: the thermal specification
/// over 28 s, with clamping, and a quarter more over 2.4 ms; both enabled.
fn usual_limits(spec: u64) -> u64 {
    const ENABLE: u64 = 1 << 15;
    const CLAMP: u64 = 1 << 16;
    const WINDOW_28_S: u64 = 0x6e << 17;
    const WINDOW_2_4_MS: u64 = 0x21 << 17;

    let long = spec | ENABLE | CLAMP | WINDOW_28_S;
    let short = (spec + spec / 4).min(LARGEST_POWER) | ENABLE | WINDOW_2_4_MS;
    short << 32 | long
}

/// Half of the time in which a counter of 32 bits wraps at 2 kW, at most a
/// minute: 2³² units of 2⁻ᵉ J last for 2³²⁻ᵉ / 2 ms.
fn half_a_wrap_ns(unit: EnergyUnit) -> u64 {
    const LONGEST_MS: u64 = 60_000;

    let ms = 1_u64 << (30_u8.saturating_sub(unit.exponent()));
    ms.clamp((*SAMPLES.start()).into(), LONGEST_MS) * 1_000_000
}
