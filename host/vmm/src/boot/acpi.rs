//! The ACPI tables: how the guest finds its CPUs, the interrupt controllers
//! and the serial port, and how it powers off.
//!
//! ACPI specification 6.5, chapter 5. The machine is a small PC without PCI,
//! real-time clock, keyboard or VGA, and with ACPI's fixed hardware as far as
//! powering off and the power button take it; see `devices`.

use acpi_tables::Aml;
use acpi_tables::aml::{self, ResourceTemplate};
use acpi_tables::facs::FACS;
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, ProcessorLocalApic};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;

use super::error::BootError;
use super::space::Space;
use crate::devices::{
    PANIC_ACPI_ID, PANIC_PORT, PM1A_CONTROL, PM1A_EVENT, RESET_PORT, RESET_VALUE, SCI,
    SLEEP_TYPE_S5,
};

/// Where the root pointer is: at the first place of those where a guest looks
/// for it if it is not told, ACPI 5.2.5.1.
pub(super) const ROOT_POINTER: u32 = 0xe_0000;

/// Writes the tables for `vcpus` CPUs into the firmware's part of memory.
pub(super) fn write(space: &Space<'_>, vcpus: u32) -> Result<(), BootError> {
    space.write(ROOT_POINTER.into(), &tables(vcpus)?)
}

/// All tables, one after the other, the root pointer first.
fn tables(vcpus: u32) -> Result<Vec<u8>, BootError> {
    let mut tables = vec![0; Rsdp::len()];
    let facs = append(&mut tables, &FACS::new());
    let dsdt = append(&mut tables, &dsdt());
    let fadt = append(&mut tables, &fadt(facs, dsdt));
    let madt = append(&mut tables, &madt(vcpus)?);

    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    xsdt.add_entry(fadt.into());
    xsdt.add_entry(madt.into());
    let xsdt = append(&mut tables, &xsdt);

    let mut root = Vec::new();
    Rsdp::new(OEM, xsdt.into()).to_aml_bytes(&mut root);
    tables.splice(..root.len(), root);
    Ok(tables)
}

/// Adds a table and returns its guest-physical address.
#[expect(clippy::cast_possible_truncation, reason = "all tables together take a few KiB")]
fn append(tables: &mut Vec<u8>, table: &dyn Aml) -> u32 {
    /// What the FACS needs, 5.2.10; the others need less.
    const ALIGN: usize = 64;
    tables.resize(tables.len().next_multiple_of(ALIGN), 0);
    let address = ROOT_POINTER + tables.len() as u32;
    table.to_aml_bytes(tables);
    address
}

/// Fixed hardware, 5.2.9. There is no SMI command, so ACPI mode is always on.
fn fadt(facs: u32, dsdt: u32) -> impl Aml {
    const NO_VGA: u16 = 1 << 2;
    const NO_MSI: u16 = 1 << 3;
    const NO_RTC: u16 = 1 << 5;
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .firmware_ctrl_32(facs)
        .dsdt_32(dsdt)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        // The power button is in fixed hardware, since the flag `PwrButton` is missing; and there
        // is no sleep button, neither there nor elsewhere.
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup);
    fadt.sci_int = u16::from(SCI).into();
    fadt.pm1a_evt_blk = u32::from(PM1A_EVENT).into();
    fadt.pm1_evt_len = 4;
    fadt.pm1a_cnt_blk = u32::from(PM1A_CONTROL).into();
    fadt.pm1_cnt_len = 2;
    fadt.iapc_boot_arch = (NO_VGA | NO_MSI | NO_RTC).into();
    fadt.reset_reg =
        GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, RESET_PORT.into());
    fadt.reset_value = RESET_VALUE;
    // C2 and C3 do not exist, 5.2.9.
    fadt.p_lvl2_lat = 101.into();
    fadt.p_lvl3_lat = 1001.into();
    fadt.finalize()
}

/// CPUs and interrupt controllers, 5.2.12. The local APICs' ids are the
/// vCPUs' numbers; KVM's IOAPIC has the PIT's interrupt at its pin 2.
fn madt(vcpus: u32) -> Result<Sdt, BootError> {
    const LOCAL_APIC: u32 = 0xfee0_0000;
    const IO_APIC: u32 = 0xfec0_0000;
    const HAS_8259: u32 = 1;
    /// Type 2, 10 bytes, bus 0, IRQ 0, to input 2; polarity and trigger mode
    /// as usual on the bus.
    const TIMER_OVERRIDE: [u8; 10] = [2, 10, 0, 0, 2, 0, 0, 0, 0, 0];
    /// The SCI at its own input, active high and level triggered, which is not usual there.
    const SCI_OVERRIDE: [u8; 10] = [2, 10, 0, SCI, SCI, 0, 0, 0, 0x0d, 0];

    let mut madt = Sdt::new(*b"APIC", HEADER_BYTES, 5, OEM, OEM_TABLE, OEM_REVISION);
    madt.append_slice(&LOCAL_APIC.to_le_bytes());
    madt.append_slice(&HAS_8259.to_le_bytes());
    for vcpu in 0..vcpus {
        let id = u8::try_from(vcpu)
            .ok()
            .filter(|&id| id != APIC_BROADCAST)
            .ok_or(BootError::TooManyVcpus { vcpus })?;
        ProcessorLocalApic::new(id, id, EnabledStatus::Enabled).to_aml_bytes(&mut madt);
    }
    IoApic::new(0, IO_APIC, 0).to_aml_bytes(&mut madt);
    madt.append_slice(&TIMER_OVERRIDE);
    madt.append_slice(&SCI_OVERRIDE);
    Ok(madt)
}

/// The serial port, and the sleep type that means power-off.
fn dsdt() -> Sdt {
    let mut dsdt = Sdt::new(*b"DSDT", HEADER_BYTES, 6, OEM, OEM_TABLE, OEM_REVISION);
    aml::Scope::new(
        "_SB_".into(),
        vec![
            &aml::Device::new(
                "COM1".into(),
                vec![
                    &aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0501")),
                    &aml::Name::new("_UID".into(), &aml::ONE),
                    &aml::Name::new(
                        "_CRS".into(),
                        &ResourceTemplate::new(vec![
                            &aml::IO::new(0x3f8, 0x3f8, 1, 8),
                            &aml::Interrupt::new(true, true, false, false, 4),
                        ]),
                    ),
                ],
            ),
            &aml::Device::new(
                "PEVT".into(),
                vec![
                    &aml::Name::new("_HID".into(), &PANIC_ACPI_ID),
                    &aml::Name::new(
                        "_CRS".into(),
                        &ResourceTemplate::new(vec![&aml::IO::new(PANIC_PORT, PANIC_PORT, 1, 1)]),
                    ),
                ],
            ),
        ],
    )
    .to_aml_bytes(&mut dsdt);
    let no_pm1b = 0_u8;
    aml::Name::new(
        "_S5_".into(),
        &aml::Package::new(vec![&SLEEP_TYPE_S5, &no_pm1b, &aml::ZERO, &aml::ZERO]),
    )
    .to_aml_bytes(&mut dsdt);
    dsdt
}

const OEM: [u8; 6] = *b"WASMSR";
const OEM_TABLE: [u8; 8] = *b"WASMSRVM";
const OEM_REVISION: u32 = 1;
const HEADER_BYTES: u32 = 36;
const APIC_BROADCAST: u8 = 0xff;

#[cfg(test)]
mod tests {
    use super::*;

    /// A table's bytes, found by its address; checks its checksum.
    fn table(tables: &[u8], address: u64, signature: &[u8]) -> Vec<u8> {
        let start = usize::try_from(address).unwrap() - ROOT_POINTER as usize;
        let table = &tables[start..];
        assert_eq!(&table[..4], signature);
        let table = &table[..u32_at(table, 4) as usize];
        if signature != b"FACS" {
            assert_eq!(sum(table), 0, "checksum");
        }
        table.to_vec()
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
    }

    fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn each_table_is_reached_from_the_root_pointer() {
        let tables = tables(4).unwrap();
        assert_eq!(&tables[..8], b"RSD PTR ");
        assert_eq!((sum(&tables[..20]), sum(&tables[..36])), (0, 0));
        let xsdt = table(&tables, u64_at(&tables, 24), b"XSDT");
        let fadt = table(&tables, u64_at(&xsdt, 36), b"FACP");
        table(&tables, u64_at(&xsdt, 44), b"APIC");
        table(&tables, u32_at(&fadt, 36).into(), b"FACS");
        table(&tables, u32_at(&fadt, 40).into(), b"DSDT");
        assert_eq!((u32_at(&fadt, 56), u32_at(&fadt, 64)), (0x600, 0x604));
        assert_eq!((u64_at(&fadt, 120), fadt[128]), (0xcf9, 6));
        const POWER_BUTTON_ELSEWHERE: u32 = 1 << 4;
        assert_eq!(u32_at(&fadt, 112) & POWER_BUTTON_ELSEWHERE, 0);
    }

    #[test]
    fn each_vcpu_has_its_local_apic() {
        let cpus = |vcpus| {
            let madt = madt(vcpus).unwrap();
            let mut rest = &madt.as_slice()[44..];
            let mut cpus = Vec::new();
            while let [kind, length, _, id, ..] = *rest {
                if kind == 0 {
                    cpus.push(id);
                }
                rest = &rest[length.into()..];
            }
            cpus
        };
        assert_eq!(cpus(1), [0]);
        assert_eq!(cpus(4), [0, 1, 2, 3]);
        assert_eq!(cpus(255).len(), 255);
        assert!(matches!(madt(256), Err(BootError::TooManyVcpus { vcpus: 256 })));
    }

    #[test]
    fn the_tables_fit_into_the_firmware_hole() {
        assert!(tables(255).unwrap().len() < 0x2_0000);
    }
}
