//! Host calls as values: what was asked, and what came back.

use std::fmt;
use std::path::PathBuf;

use serde::de::{self, IntoDeserializer as _, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use wasmsr_interface::{Directions, ExitsCause, MsrIndex, MsrRange};

use super::hex::{Bytes, Hex};

/// One call of a plugin to the [`Host`](wasmsr_interface::Host), with its reply. The names
/// are those of the ABI's imports, where there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "call", rename_all = "snake_case")]
#[expect(missing_docs, reason = "as the methods of `Host`, which document them")]
pub enum HostCall {
    Tsc {
        vcpu: u32,
        value: Hex,
    },
    TscKhz {
        value: u32,
    },
    MonotonicNs {
        value: Hex,
    },
    RealtimeNs {
        value: Hex,
    },
    TscIsStable {
        value: bool,
    },
    VcpuTimes {
        vcpu: u32,
        /// Nanoseconds run and waited.
        #[serde(skip_serializing_if = "Option::is_none")]
        value: Option<(Hex, Hex)>,
    },
    GuestRead {
        gpa: Hex,
        len: usize,
        /// Absent where the range is not guest RAM.
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<Bytes>,
    },
    GuestWrite {
        gpa: Hex,
        data: Bytes,
        done: bool,
    },
    KvmRdmsr {
        vcpu: u32,
        msr: MsrIndex,
        /// Whether it was asked for as the guest.
        #[serde(default, skip_serializing_if = "is_false")]
        as_guest: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        value: Option<Hex>,
    },
    KvmWrmsr {
        vcpu: u32,
        msr: MsrIndex,
        value: Hex,
        /// Whether it was written as the guest.
        #[serde(default, skip_serializing_if = "is_false")]
        as_guest: bool,
        done: bool,
    },
    HostRdmsr {
        /// Absent for the CPU that the vCPU ran on.
        #[serde(skip_serializing_if = "Option::is_none")]
        cpu: Option<u32>,
        msr: MsrIndex,
        #[serde(skip_serializing_if = "Option::is_none")]
        value: Option<Hex>,
    },
    HostCpus {
        value: u32,
    },
    HostFile {
        path: PathBuf,
        /// Most bytes that were asked for.
        room: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<Bytes>,
    },
    SetExits {
        /// What the plugin turned on or off; absent in older recordings.
        #[serde(flatten, skip_serializing_if = "Option::is_none")]
        switch: Option<Switch>,
        /// Why the filter could not hold them.
        #[serde(skip_serializing_if = "Option::is_none")]
        refused: Option<String>,
    },
    WakeAt {
        vcpu: u32,
        at: Hex,
    },
}

/// Accesses that a plugin turns on or off with `intercept`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Of which MSRs.
    pub msrs: MsrRange,
    /// Which instructions.
    pub directions: Directions,
    /// Whether they exit from here on.
    pub on: bool,
}

impl Switch {
    /// What a plugin turns on or off, if that is why the exits change.
    pub(crate) fn of(cause: &ExitsCause) -> Option<Self> {
        match *cause {
            ExitsCause::Intercept { range, directions, on, .. } => {
                Some(Switch { msrs: range, directions, on })
            }
            ExitsCause::Reset | ExitsCause::Restore | ExitsCause::Swap => None,
        }
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.on { "on" } else { "off" };
        write!(f, "turned {} {} {state}", self.msrs, self.directions)
    }
}

impl HostCall {
    /// What the call holds on the heap, in bytes.
    pub(crate) fn size(&self) -> usize {
        match self {
            HostCall::GuestRead { data: Some(data), .. } | HostCall::GuestWrite { data, .. } => {
                data.0.len()
            }
            HostCall::HostFile { path, data, .. } => {
                path.as_os_str().len() + data.as_ref().map_or(0, |data| data.0.len())
            }
            HostCall::SetExits { refused: Some(why), .. } => why.len(),
            _ => 0,
        }
    }

    /// Whether the call changes something, beside what it answers: guest memory,
    /// KVM's MSRs, what exits, when the plugin is called.
    pub(crate) fn is_effect(&self) -> bool {
        matches!(
            self,
            HostCall::GuestWrite { .. }
                | HostCall::KvmWrmsr { .. }
                | HostCall::SetExits { .. }
                | HostCall::WakeAt { .. }
        )
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Stands in the place of a plugin for what the engine itself asks.
pub const ENGINE: &str = "(engine)";

/// A call with the plugin that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Keys")]
pub struct PluginCall {
    /// The plugin's name.
    pub plugin: String,
    /// The call.
    #[serde(flatten)]
    pub call: HostCall,
}

/// The keys of all calls. Read so, those that are not known are passed over; serde
/// would keep each in memory until it knows which call it is.
#[derive(Deserialize)]
struct Keys {
    plugin: String,
    call: String,
    vcpu: Option<u32>,
    value: Option<Value>,
    gpa: Option<Hex>,
    len: Option<usize>,
    data: Option<Bytes>,
    done: Option<bool>,
    as_guest: Option<bool>,
    msr: Option<MsrIndex>,
    cpu: Option<u32>,
    path: Option<PathBuf>,
    room: Option<usize>,
    msrs: Option<MsrRange>,
    directions: Option<Directions>,
    on: Option<bool>,
    refused: Option<String>,
    at: Option<Hex>,
}

/// A reply, before it is known to which call.
enum Value {
    Number(u32),
    Flag(bool),
    Hex(Hex),
    Times(Hex, Hex),
}

impl TryFrom<Keys> for PluginCall {
    type Error = String;

    fn try_from(keys: Keys) -> Result<Self, Self::Error> {
        let Keys { plugin, call, vcpu, value, gpa, len, data, .. } = keys;
        let Keys { done, msr, cpu, path, room, refused, at, .. } = keys;
        let Keys { msrs, directions, on, as_guest, .. } = keys;
        let as_guest = as_guest.unwrap_or_default();
        let missing = |key: &str| format!("host call `{call}` lacks `{key}`");
        let other = || format!("host call `{call}` has no such `value`");
        let hex = match &value {
            Some(Value::Hex(hex)) => Some(*hex),
            _ => None,
        };
        // Where the reply may be absent, what is there must fit.
        let hex_or_none =
            || if value.is_none() { Ok(None) } else { hex.map(Some).ok_or_else(other) };
        let vcpu = || vcpu.ok_or_else(|| missing("vcpu"));
        let gpa = || gpa.ok_or_else(|| missing("gpa"));
        let msr = || msr.ok_or_else(|| missing("msr"));
        let done = || done.ok_or_else(|| missing("done"));
        let number = || match value {
            Some(Value::Number(number)) => Ok(number),
            _ => Err(other()),
        };
        let call = match call.as_str() {
            "tsc" => HostCall::Tsc { vcpu: vcpu()?, value: hex.ok_or_else(other)? },
            "tsc_khz" => HostCall::TscKhz { value: number()? },
            "monotonic_ns" => HostCall::MonotonicNs { value: hex.ok_or_else(other)? },
            "realtime_ns" => HostCall::RealtimeNs { value: hex.ok_or_else(other)? },
            "tsc_is_stable" => match value {
                Some(Value::Flag(value)) => HostCall::TscIsStable { value },
                _ => return Err(other()),
            },
            "vcpu_times" => match value {
                None => HostCall::VcpuTimes { vcpu: vcpu()?, value: None },
                Some(Value::Times(run, waited)) => {
                    HostCall::VcpuTimes { vcpu: vcpu()?, value: Some((run, waited)) }
                }
                Some(_) => return Err(other()),
            },
            "guest_read" => {
                HostCall::GuestRead { gpa: gpa()?, len: len.ok_or_else(|| missing("len"))?, data }
            }
            "guest_write" => {
                let data = data.ok_or_else(|| missing("data"))?;
                HostCall::GuestWrite { gpa: gpa()?, data, done: done()? }
            }
            "kvm_rdmsr" => {
                HostCall::KvmRdmsr { vcpu: vcpu()?, msr: msr()?, as_guest, value: hex_or_none()? }
            }
            "kvm_wrmsr" => {
                let value = hex.ok_or_else(other)?;
                HostCall::KvmWrmsr { vcpu: vcpu()?, msr: msr()?, value, as_guest, done: done()? }
            }
            "host_rdmsr" => HostCall::HostRdmsr { cpu, msr: msr()?, value: hex_or_none()? },
            "host_cpus" => HostCall::HostCpus { value: number()? },
            "host_file" => {
                let path = path.ok_or_else(|| missing("path"))?;
                HostCall::HostFile { path, room: room.ok_or_else(|| missing("room"))?, data }
            }
            "set_exits" => {
                let whole = msrs.zip(directions).zip(on);
                let switch = whole.map(|((msrs, directions), on)| Switch { msrs, directions, on });
                HostCall::SetExits { switch, refused }
            }
            "wake_at" => HostCall::WakeAt { vcpu: vcpu()?, at: at.ok_or_else(|| missing("at"))? },
            _ => {
                let call: String = call.chars().take(64).collect();
                return Err(format!("unknown host call `{call}`"));
            }
        };
        Ok(PluginCall { plugin, call })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of 32 bits, a truth value, hexadecimal text or two of them")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Flag(flag))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
        let wrong = |_| E::invalid_value(Unexpected::Unsigned(number), &self);
        u32::try_from(number).map(Value::Number).map_err(wrong)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Hex::deserialize(text.into_deserializer()).map(Value::Hex)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut two: A) -> Result<Value, A::Error> {
        let mut next = |at: usize| {
            let element = two.next_element()?;
            element.ok_or_else(|| de::Error::invalid_length(at, &AnyValue))
        };
        Ok(Value::Times(next(0)?, next(1)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call with all its keys, then those that may be absent.
    const CALLS: &[(&str, &[&str])] = &[
        (r#""call":"tsc","vcpu":1,"value":"0x1""#, &[]),
        (r#""call":"tsc_khz","value":1"#, &[]),
        (r#""call":"monotonic_ns","value":"0x1""#, &[]),
        (r#""call":"realtime_ns","value":"0x1""#, &[]),
        (r#""call":"tsc_is_stable","value":true"#, &[]),
        (r#""call":"vcpu_times","vcpu":1,"value":["0x1","0x2"]"#, &["value"]),
        (r#""call":"guest_read","gpa":"0x1000","len":2,"data":"00ff""#, &["data"]),
        (r#""call":"guest_write","gpa":"0x1000","data":"00ff","done":true"#, &[]),
        (r#""call":"kvm_rdmsr","vcpu":1,"msr":"0x10","value":"0x1""#, &["value"]),
        (r#""call":"kvm_wrmsr","vcpu":1,"msr":"0x10","value":"0x1","done":false"#, &[]),
        (
            r#""call":"kvm_rdmsr","vcpu":1,"msr":"0x10","as_guest":true,"value":"0x1""#,
            &["as_guest", "value"],
        ),
        (
            r#""call":"kvm_wrmsr","vcpu":1,"msr":"0x10","value":"0x1","as_guest":true,"done":true"#,
            &["as_guest"],
        ),
        (r#""call":"host_rdmsr","cpu":3,"msr":"0x10","value":"0x1""#, &["cpu", "value"]),
        (r#""call":"host_cpus","value":4"#, &[]),
        (r#""call":"host_file","path":"/f","room":9,"data":"00""#, &["data"]),
        (
            r#""call":"set_exits","msrs":"0x10-0x12","directions":"rw","on":true,"refused":"too many""#,
            &["msrs", "directions", "on", "refused"],
        ),
        (r#""call":"wake_at","vcpu":1,"at":"0x1""#, &[]),
    ];

    #[test]
    fn calls_are_read_as_they_are_written() {
        for (keys, _) in CALLS {
            let text = format!(r#"{{"plugin":"p",{keys}}}"#);
            let call: PluginCall = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&call).unwrap(), text);
            let more = text.replace(r#""plugin""#, r#""later":[[],{"a":1}],"plugin""#);
            assert_eq!(serde_json::from_str::<PluginCall>(&more).unwrap(), call);
        }
    }

    #[test]
    fn keys_are_absent_only_where_they_may_be() {
        for (keys, optional) in CALLS {
            let whole = format!(r#"{{"plugin":"p",{keys}}}"#);
            let whole: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(&whole).unwrap();
            for key in whole.keys() {
                let mut part = whole.clone();
                part.remove(key);
                let read = serde_json::from_value::<PluginCall>(part.into());
                assert_eq!(read.is_ok(), optional.contains(&key.as_str()), "{keys} without {key}");
                let mut part = whole.clone();
                part.insert(key.clone(), serde_json::json!({ "of": "another type" }));
                assert!(
                    serde_json::from_value::<PluginCall>(part.into()).is_err(),
                    "{keys}: {key}"
                );
            }
        }
    }

    #[test]
    fn replies_are_of_the_call() {
        for text in [
            r#"{"plugin":"p","call":"tsc_khz","value":4294967296}"#,
            r#"{"plugin":"p","call":"tsc_khz","value":"0x1"}"#,
            r#"{"plugin":"p","call":"kvm_rdmsr","vcpu":1,"msr":"0x10","value":1}"#,
            r#"{"plugin":"p","call":"vcpu_times","vcpu":1,"value":["0x1"]}"#,
            r#"{"plugin":"p","call":"vcpu_times","vcpu":1,"value":["0x1","0x1","0x1"]}"#,
            r#"{"plugin":"p","call":"wait"}"#,
        ] {
            assert!(serde_json::from_str::<PluginCall>(text).is_err(), "{text}");
        }
    }
}
