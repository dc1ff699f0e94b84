//! The plugins that the project ships, each in a guest.

mod amd_compat;
mod arch_capabilities;
mod counter;
mod examples;
mod frequency;
mod host_passthrough;
mod hyperv_clock;
mod hyperv_clock_linux;
mod hyperv_pages;
mod kvm_clock;
mod kvm_clock_linux;
mod linux_clock;
mod processors;
mod rapl;
mod rapl_linux;
mod registers;
mod sampling_guard;
mod topology;
mod unknown_log;
mod value_template;
