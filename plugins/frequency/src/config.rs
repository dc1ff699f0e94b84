//! The processor as a profile describes it.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use serde::Deserialize;
use wasmsr_sdk::{Error, Setup, time, vcpus};

use crate::amd::{Amd, STEP_MHZ};
use crate::counters::Counters;
use crate::intel::{Intel, Options};
use crate::speeds::{BUS_MHZ, Speeds};
use crate::{Frequency, Vendor};

/// The engine reads `vendor`, `hwp` and `cppc` too, for claims and CPUID.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Config {
    vendor: VendorName,
    base_mhz: Option<u32>,
    min_mhz: Option<u32>,
    turbo_mhz: Option<Vec<u32>>,
    turbo_cores: Option<Vec<u8>>,
    pstates_mhz: Option<Vec<u32>>,
    #[serde(default)]
    hwp: bool,
    #[serde(default)]
    cppc: bool,
    highest_temperature: Option<u8>,
    temperature: Option<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum VendorName {
    Intel,
    Amd,
}

/// 800 MHz, as on most processors.
const USUAL_MIN: u32 = 800;

/// 100 °C, as on most processors.
const USUAL_HIGHEST_TEMPERATURE: u8 = 100;

const USUAL_TEMPERATURE: u8 = 45;

/// Speeds in `MSR_TURBO_RATIO_LIMIT`, 1 and 2.
const MOST_TURBO: usize = 24;

/// Speeds that have a number of cores each.
const MOST_GROUPS: usize = 8;

/// P-states that have a register.
const MOST_PSTATES: usize = 8;

/// How far below the highest temperature a reading can be, in seven bits.
const MOST_DEGREES_BELOW: u8 = 127;

/// The processor of a configuration.
pub(crate) fn read(setup: &Setup) -> Result<Frequency, Error> {
    let config: Config = setup.config()?;
    let mut mistakes = Mistakes(Vec::new());
    let speeds = config.speeds(&mut mistakes);
    let vendor = match config.vendor {
        VendorName::Intel => {
            config.check_intel(&mut mistakes);
            Vendor::Intel(Intel::new(&speeds, &config.options(&mut mistakes)))
        }
        VendorName::Amd => {
            config.check_amd(&mut mistakes);
            Vendor::Amd(Amd::new(config.pstates(&speeds, &mut mistakes), config.cppc))
        }
    };
    mistakes.none()?;
    Ok(Frequency { speeds, vendor, counters: Counters::new(time::tsc()) })
}

impl Config {
    /// The unit of speeds, and the highest one.
    fn unit(&self) -> (u32, u32) {
        match self.vendor {
            VendorName::Intel => (BUS_MHZ, 255 * BUS_MHZ),
            VendorName::Amd => (STEP_MHZ, 255 * STEP_MHZ),
        }
    }

    fn speeds(&self, mistakes: &mut Mistakes) -> Speeds {
        let (unit, most) = self.unit();
        let tsc_khz = time::tsc_khz();
        let of_tsc = (tsc_khz.saturating_add(unit * 500)) / (unit * 1000) * unit;
        let base = match self.base_mhz {
            Some(base) => self.speed("base-mhz", base, mistakes),
            None if (unit..=most).contains(&of_tsc) => of_tsc,
            None => {
                let text =
                    format!("a TSC of {tsc_khz} kHz is no speed from {unit} to {most}; set one");
                mistakes.add("base-mhz", text);
                unit
            }
        };
        let min = match self.min_mhz {
            Some(min) => self.speed("min-mhz", min, mistakes),
            None => USUAL_MIN.min(base),
        };
        // Without a base speed, only that is wrong.
        let base_is_good = !mistakes.name("base-mhz");
        if base_is_good && min > base {
            mistakes.add("min-mhz", format!("{min} is more than {base}, the base speed"));
        }
        let turbo = self.turbo_mhz.clone().unwrap_or_else(|| vec![base]);
        if !(1..=MOST_TURBO).contains(&turbo.len()) {
            mistakes.add("turbo-mhz", format!("{} speeds; list 1 to {MOST_TURBO}", turbo.len()));
        }
        let mut before = most;
        for (place, mhz) in self.turbo_mhz.iter().flatten().enumerate() {
            let key = format!("turbo-mhz[{place}]");
            self.speed(&key, *mhz, mistakes);
            if base_is_good && *mhz < base {
                mistakes.add(&key, format!("{mhz} is less than {base}, the base speed"));
            } else if *mhz > before {
                let text = format!("{mhz} is more than {before}, which fewer cores reach");
                mistakes.add(&key, text);
            }
            before = *mhz;
        }
        Speeds { min, base, all_cores: self.all_cores(&turbo, base), turbo }
    }

    /// The speed of turbo if all cores of the VM are busy.
    fn all_cores(&self, turbo: &[u32], base: u32) -> u32 {
        let cores = vcpus::count();
        let place = match &self.turbo_cores {
            Some(groups) => groups.iter().position(|most| cores <= u32::from(*most)),
            None => usize::try_from(cores.saturating_sub(1)).ok(),
        };
        let speed = place.and_then(|place| turbo.get(place)).or(turbo.last());
        speed.copied().unwrap_or(base)
    }

    fn speed(&self, key: &str, mhz: u32, mistakes: &mut Mistakes) -> u32 {
        let (unit, most) = self.unit();
        if !(unit..=most).contains(&mhz) {
            mistakes.add(key, format!("{mhz} is not from {unit} to {most}"));
        } else if !mhz.is_multiple_of(unit) {
            mistakes.add(key, format!("{mhz} is not a multiple of {unit} MHz"));
        }
        mhz
    }

    fn options(&self, mistakes: &mut Mistakes) -> Options {
        let highest = self.highest_temperature.unwrap_or(USUAL_HIGHEST_TEMPERATURE);
        let temperature = self.temperature.unwrap_or(USUAL_TEMPERATURE.min(highest));
        if highest == 0 {
            mistakes.add("highest-temperature", "0 is not from 1 to 255");
        }
        let lowest = highest.saturating_sub(MOST_DEGREES_BELOW);
        if !(lowest..=highest).contains(&temperature) {
            mistakes.add("temperature", format!("{temperature} is not from {lowest} to {highest}"));
        }
        let turbo = self.turbo_mhz.as_ref().map_or(1, Vec::len);
        if let Some(cores) = &self.turbo_cores {
            if cores.len() != turbo || cores.len() > MOST_GROUPS {
                let text = format!(
                    "{} numbers for {turbo} speeds; give each speed of `turbo-mhz` one, at most \
                     {MOST_GROUPS}",
                    cores.len()
                );
                mistakes.add("turbo-cores", text);
            }
            if cores.first() == Some(&0) || !cores.is_sorted_by(|one, next| one < next) {
                mistakes.add("turbo-cores", "each must be more than the one before it");
            }
        }
        Options {
            hwp: self.hwp,
            highest_temperature: highest,
            temperature,
            turbo_cores: self.turbo_cores.clone(),
        }
    }

    fn pstates(&self, speeds: &Speeds, mistakes: &mut Mistakes) -> Vec<u32> {
        let Some(pstates) = &self.pstates_mhz else {
            let mut usual = vec![speeds.base];
            usual.extend((speeds.min < speeds.base).then_some(speeds.min));
            return usual;
        };
        if !(1..=MOST_PSTATES).contains(&pstates.len()) {
            let text = format!("{} states; list 1 to {MOST_PSTATES}", pstates.len());
            mistakes.add("pstates-mhz", text);
        }
        let base_is_good = !mistakes.name("base-mhz");
        if base_is_good && pstates.first().is_some_and(|first| *first != speeds.base) {
            let text = format!("the first state is {}, the base speed", speeds.base);
            mistakes.add("pstates-mhz[0]", text);
        }
        for (place, mhz) in pstates.iter().enumerate() {
            self.speed(&format!("pstates-mhz[{place}]"), *mhz, mistakes);
        }
        if !pstates.is_sorted_by(|one, next| one > next) {
            mistakes.add("pstates-mhz", "each must be slower than the one before it");
        }
        pstates.clone()
    }

    fn check_intel(&self, mistakes: &mut Mistakes) {
        for (key, given) in [("pstates-mhz", self.pstates_mhz.is_some()), ("cppc", self.cppc)] {
            if given {
                mistakes.add(key, "it is for `vendor = \"amd\"`");
            }
        }
    }

    fn check_amd(&self, mistakes: &mut Mistakes) {
        for (key, given) in [
            ("hwp", self.hwp),
            ("turbo-cores", self.turbo_cores.is_some()),
            ("highest-temperature", self.highest_temperature.is_some()),
            ("temperature", self.temperature.is_some()),
        ] {
            if given {
                mistakes.add(key, "it is for `vendor = \"intel\"`");
            }
        }
    }
}

/// What is wrong, each with its key.
struct Mistakes(Vec<String>);

impl Mistakes {
    fn add(&mut self, key: &str, problem: impl fmt::Display) {
        self.0.push(format!("config key `{key}`: {problem}"));
    }

    /// Whether one is about this key.
    fn name(&self, key: &str) -> bool {
        let start = format!("config key `{key}`");
        self.0.iter().any(|mistake| mistake.starts_with(&start))
    }

    fn none(self) -> Result<(), Error> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Error::new(self.0.join("; "))),
        }
    }
}
