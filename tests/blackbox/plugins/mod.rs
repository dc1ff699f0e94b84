//! The plugins that the project ships, each in a guest.

mod amd_compat;
mod arch_capabilities;
mod counter;
mod examples;
mod host_passthrough;
mod hyperv_clock;
mod hyperv_clock_linux;
mod kvm_clock;
mod kvm_clock_linux;
mod linux_clock;
mod rapl;
mod rapl_linux;
mod sampling_guard;
mod topology;
mod unknown_log;
mod value_template;
mod vendor_range;

use libtest_mimic::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    let trials = [
        amd_compat::trials(),
        arch_capabilities::trials(),
        counter::trials(),
        examples::trials(),
        host_passthrough::trials(),
        hyperv_clock::trials(),
        hyperv_clock_linux::trials(),
        kvm_clock::trials(),
        kvm_clock_linux::trials(),
        rapl::trials(),
        rapl_linux::trials(),
        sampling_guard::trials(),
        topology::trials(),
        unknown_log::trials(),
        value_template::trials(),
        vendor_range::trials(),
    ];
    trials.into_iter().flatten().collect()
}
