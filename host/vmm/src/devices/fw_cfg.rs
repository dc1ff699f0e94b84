//! A minimal firmware configuration device, for guests that ask QEMU's for
//! the number of CPUs: selector at 0x510, data at 0x511
//! (QEMU, `docs/specs/fw_cfg.rst`).

/// What the guest selected, and how far it has read.
pub(crate) struct FwCfg {
    memory: u64,
    vcpus: u32,
    selected: u16,
    position: usize,
}

impl FwCfg {
    pub(crate) fn new(memory: u64, vcpus: u32) -> Self {
        FwCfg { memory, vcpus, selected: SIGNATURE, position: 0 }
    }

    pub(super) fn read(&mut self, offset: u8, unit: &mut [u8]) {
        if offset != DATA {
            return unit.fill(0);
        }
        let item = self.item();
        for byte in unit {
            *byte = item.get(self.position).copied().unwrap_or(0);
            self.position = self.position.saturating_add(1);
        }
    }

    pub(super) fn write(&mut self, offset: u8, unit: &[u8]) {
        if let (SELECTOR, &[low, high]) = (offset, unit) {
            self.selected = u16::from_le_bytes([low, high]);
            self.position = 0;
        }
    }

    /// The selected item; one that does not exist reads as zeros.
    fn item(&self) -> [u8; 8] {
        match self.selected {
            SIGNATURE => u64::from(u32::from_le_bytes(*b"QEMU")),
            INTERFACE => LEGACY_INTERFACE,
            RAM_SIZE => self.memory,
            CPU_COUNT | MAX_CPUS => u64::from(self.vcpus),
            _ => 0,
        }
        .to_le_bytes()
    }
}

const SELECTOR: u8 = 0;
const DATA: u8 = 1;

const SIGNATURE: u16 = 0x00;
const INTERFACE: u16 = 0x01;
const RAM_SIZE: u16 = 0x03;
const CPU_COUNT: u16 = 0x05;
const MAX_CPUS: u16 = 0x0f;

/// No DMA.
const LEGACY_INTERFACE: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(key: u16, expected: &[u8]) {
        let mut device = FwCfg::new(0x1_2345_6000, 4);
        device.write(SELECTOR, &key.to_le_bytes());
        let mut got = vec![0x55; expected.len()];
        // Byte by byte, as guests read.
        for byte in &mut got {
            device.read(DATA, std::slice::from_mut(byte));
        }
        assert_eq!(got, expected, "key {key:#x}");
    }

    #[test]
    fn items() {
        check(SIGNATURE, b"QEMU");
        check(INTERFACE, &[1, 0, 0, 0]);
        check(RAM_SIZE, &0x1_2345_6000_u64.to_le_bytes());
        check(CPU_COUNT, &[4, 0]);
        check(MAX_CPUS, &[4, 0]);
        check(0x19, &[0; 16]);
    }

    #[test]
    fn selecting_starts_again() {
        let mut device = FwCfg::new(0, 1);
        let mut two = [0; 2];
        device.read(DATA, &mut two);
        assert_eq!(&two, b"QE");
        device.write(SELECTOR, &[0, 0]);
        device.read(DATA, &mut two);
        assert_eq!(&two, b"QE");
    }
}
