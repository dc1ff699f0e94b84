//! The processor as a profile describes it.

use alloc::format;
use alloc::vec::Vec;

use serde::Deserialize;
use wasmsr_sdk::{Bits64, Error, Setup, VcpuId, log, time, vcpus};

use crate::Topology;
use crate::misc_enable::Fixed;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Config {
    #[serde(default = "one")]
    threads_per_core: u32,
    max_ratio: Option<u8>,
    min_ratio: Option<u8>,
    #[serde(default)]
    platform_id: u8,
    microcode: Option<Bits64>,
    #[serde(default)]
    misc_enable: MiscEnable,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct MiscEnable {
    #[serde(default)]
    set: Vec<u32>,
    #[serde(default)]
    clear: Vec<u32>,
}

fn one() -> u32 {
    1
}

/// Ratios are multiples of this on all processors since Sandy Bridge.
const BUS_KHZ: u32 = 100_000;

/// 800 MHz, as on most of these processors.
const USUAL_MIN_RATIO: u8 = 8;

/// The processor of a configuration.
pub(crate) fn read(setup: &Setup) -> Result<Topology, Error> {
    let config: Config = setup.config()?;
    let (max_ratio, min_ratio) = ratios(&config)?;
    if config.platform_id > 7 {
        return Err(Error::in_config(
            "platform-id",
            format!("{} is more than 7; it has three bits", config.platform_id),
        ));
    }
    Ok(Topology {
        core_thread_count: core_thread_count(config.threads_per_core, setup.vcpu())?,
        ratios: u64::from(max_ratio) << 8 | u64::from(min_ratio) << 40,
        platform_id: u64::from(config.platform_id) << 50,
        sign_id: config.microcode.map(sign_id).transpose()?,
        misc_enable: fixed(&config.misc_enable)?,
    })
}

/// `MSR_CORE_THREAD_COUNT` of one package: cores in bits 31:16, threads in 15:0.
fn core_thread_count(threads_per_core: u32, vcpu: Option<VcpuId>) -> Result<u64, Error> {
    let threads = vcpus::count();
    match threads.checked_div(threads_per_core) {
        Some(cores) if cores * threads_per_core == threads => {
            // Logged once, not for each vCPU.
            if threads_per_core != 1 && vcpu == Some(VcpuId(0)) {
                log::warn!(
                    "threads-per-core = {threads_per_core}: CPUID shows one thread per core, \
                     unless another plugin changes leaf 0xb"
                );
            }
            Ok(u64::from(cores) << 16 | u64::from(threads & 0xffff))
        }
        _ => Err(Error::in_config(
            "threads-per-core",
            format!(
                "{threads} {} not a whole number of cores with {threads_per_core} threads",
                if threads == 1 { "vCPU is" } else { "vCPUs are" }
            ),
        )),
    }
}

/// The highest ratio without turbo, which is the TSC's, and the lowest.
fn ratios(config: &Config) -> Result<(u8, u8), Error> {
    let tsc_khz = time::tsc_khz();
    let of_tsc = u8::try_from((tsc_khz.saturating_add(BUS_KHZ / 2)) / BUS_KHZ).ok();
    let max = config.max_ratio.or(of_tsc).filter(|&ratio| ratio != 0).ok_or_else(|| {
        Error::in_config(
            "max-ratio",
            format!("a TSC of {tsc_khz} kHz has no ratio to 100 MHz from 1 to 255; set one"),
        )
    })?;
    let min = config.min_ratio.unwrap_or(USUAL_MIN_RATIO.min(max));
    match (1..=max).contains(&min) {
        true => Ok((max, min)),
        false => Err(Error::in_config("min-ratio", format!("{min} is not from 1 to {max}"))),
    }
}

/// `IA32_BIOS_SIGN_ID`: the revision in the upper half.
fn sign_id(revision: Bits64) -> Result<u64, Error> {
    match u32::try_from(revision.0) {
        Ok(revision) => Ok(u64::from(revision) << 32),
        Err(_) => Err(Error::in_config(
            "microcode",
            format!("{revision} has more than 32 bits; give the revision, not the register"),
        )),
    }
}

fn fixed(config: &MiscEnable) -> Result<Fixed, Error> {
    let bits = |key: &str, numbers: &[u32]| {
        numbers.iter().enumerate().try_fold(0_u64, |bits, (place, &number)| {
            let bit = 1_u64.checked_shl(number).ok_or_else(|| {
                Error::in_config(
                    format!("misc-enable.{key}[{place}]"),
                    format!("{number} is not a bit from 0 to 63"),
                )
            })?;
            Ok(bits | bit)
        })
    };
    let fixed = Fixed { set: bits("set", &config.set)?, clear: bits("clear", &config.clear)? };
    match fixed.set & fixed.clear {
        0 => Ok(fixed),
        both => Err(Error::in_config(
            "misc-enable",
            format!("bit {} is in both `set` and `clear`", both.trailing_zeros()),
        )),
    }
}
