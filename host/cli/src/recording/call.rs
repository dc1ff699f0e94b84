//! The host calls of a recording: their names and descriptions.

use serde_json::Value;
use wasmsr_engine::record::{HostCall, PluginCall};

use crate::terminal::plain::{plain, plain_up_to};

/// Most characters of a call's argument: it may be a page of guest memory.
const LONGEST_ARGUMENT: usize = 64;

/// The call's name, as the recording has it.
pub(crate) fn name(call: &HostCall) -> &'static str {
    match call {
        HostCall::Tsc { .. } => "tsc",
        HostCall::TscKhz { .. } => "tsc_khz",
        HostCall::MonotonicNs { .. } => "monotonic_ns",
        HostCall::RealtimeNs { .. } => "realtime_ns",
        HostCall::TscIsStable { .. } => "tsc_is_stable",
        HostCall::VcpuTimes { .. } => "vcpu_times",
        HostCall::GuestRead { .. } => "guest_read",
        HostCall::GuestWrite { .. } => "guest_write",
        HostCall::KvmRdmsr { as_guest: true, .. } => "kvm_rdmsr_as_guest",
        HostCall::KvmRdmsr { .. } => "kvm_rdmsr",
        HostCall::KvmWrmsr { as_guest: true, .. } => "kvm_wrmsr_as_guest",
        HostCall::KvmWrmsr { .. } => "kvm_wrmsr",
        HostCall::HostRdmsr { .. } => "host_rdmsr",
        HostCall::HostCpus { .. } => "host_cpus",
        HostCall::HostFile { .. } => "host_file",
        HostCall::SetExits { .. } => "set_exits",
        HostCall::WakeAt { .. } => "wake_at",
    }
}

/// One line about a call: the plugin, the call, and each argument and reply by name.
pub(crate) fn described(call: &PluginCall) -> String {
    let mut text = format!("{}: {}", plain(&call.plugin), name(&call.call));
    // It fails only for keys that are not text, and no call has one.
    let fields = serde_json::to_value(&call.call).unwrap_or_default();
    for (key, value) in fields.as_object().into_iter().flatten().filter(|(key, _)| *key != "call") {
        let value = match value {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        text += &format!(" {key}={}", plain_up_to(&value, LONGEST_ARGUMENT));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLS: &[&str] = &[
        r#"{"plugin":"p","call":"tsc","vcpu":0,"value":"0x1"}"#,
        r#"{"plugin":"p","call":"tsc_khz","value":1}"#,
        r#"{"plugin":"p","call":"monotonic_ns","value":"0x1"}"#,
        r#"{"plugin":"p","call":"realtime_ns","value":"0x1"}"#,
        r#"{"plugin":"p","call":"tsc_is_stable","value":true}"#,
        r#"{"plugin":"p","call":"vcpu_times","vcpu":0,"value":["0x1","0x2"]}"#,
        r#"{"plugin":"p","call":"guest_read","gpa":"0x1000","len":2,"data":"00ff"}"#,
        r#"{"plugin":"p","call":"guest_write","gpa":"0x1000","data":"00ff","done":true}"#,
        r#"{"plugin":"p","call":"kvm_rdmsr","vcpu":0,"msr":"0x10"}"#,
        r#"{"plugin":"p","call":"kvm_wrmsr","vcpu":0,"msr":"0x10","value":"0x1","done":true}"#,
        r#"{"plugin":"p","call":"host_rdmsr","msr":"0x10","value":"0x1"}"#,
        r#"{"plugin":"p","call":"host_cpus","value":4}"#,
        r#"{"plugin":"p","call":"host_file","path":"/f","room":9,"data":"00"}"#,
        r#"{"plugin":"p","call":"set_exits"}"#,
        r#"{"plugin":"p","call":"wake_at","vcpu":0,"at":"0x1"}"#,
    ];

    #[test]
    fn names_are_those_of_the_format() {
        for text in CALLS {
            let call: PluginCall = serde_json::from_str(text).unwrap();
            assert!(text.contains(&format!("\"call\":\"{}\"", name(&call.call))), "{text}");
        }
    }

    #[test]
    fn a_call_is_one_short_line() {
        let data = "ab".repeat(4096);
        let text = format!(
            r#"{{"plugin":"\u001bp","call":"guest_read","gpa":"0x1000","len":4096,"data":"{data}"}}"#
        );
        let line = described(&serde_json::from_str(&text).unwrap());
        assert!(line.starts_with(r"\u{1b}p: guest_read data=abab"), "{line}");
        assert!(line.ends_with("… gpa=0x1000 len=4096"), "{line}");
    }
}
