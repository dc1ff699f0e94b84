//! What goes over the socket, as JSON. Requests with unknown keys are refused; readers of
//! answers pass over keys that they do not know.

use std::collections::BTreeMap;
use std::path::PathBuf;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// GET /v1/vm: the VM and the set of plugins in charge
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct VmInfo {
    /// its name: `[vm] name`, or made from the profile's
    pub name: String,
    /// its process
    pub pid: u32,
    /// the version of wasmsr
    pub version: String,
    /// the path of its profile
    pub profile: String,
    /// boots so far, the present one included
    pub boots: u64,
    /// seconds since the run began
    pub uptime: f64,
    /// seconds since the boot began; null between two
    pub boot_uptime: Option<f64>,
    /// its vCPUs
    pub vcpus: u32,
    /// whether it is paused
    pub paused: bool,
    /// the number of the set in charge, from 1 in each boot; 0 between two
    pub generation: u64,
    /// the digest of the set in charge: SHA-256, 64 hexadecimal digits
    pub set: String,
    /// in a few words: `good`, or what is not
    pub health: String,
    /// the plugins in charge
    pub plugins: Vec<PluginState>,
    /// swaps of this run
    pub swaps: u64,
    /// sets that were taken back, by cause: `failed`, `differs`, `faults`
    pub returns: BTreeMap<String, u64>,
    /// the probation of the set in charge; null without one
    pub probation: Option<Probation>,
    /// the last change of the set in charge; null before the first
    pub last: Option<Last>,
    /// whether accesses are recorded
    #[serde(default)]
    pub recording: bool,
}

/// a plugin in charge
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct PluginState {
    /// its name
    pub name: String,
    /// its version
    pub version: String,
    /// SHA-256 of its file
    pub sha256: String,
    /// what answers in its place: `kernel`, `fault` or `ignore`; null if it answers itself
    pub disabled: Option<Answer>,
}

/// a set on probation
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Probation {
    /// its generation
    pub generation: u64,
    /// accesses that it has answered
    pub accesses: u64,
    /// seconds until it has passed; null if only accesses count
    pub seconds_left: Option<f64>,
}

/// a change of the set in charge
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Last {
    /// `swap`, `return` or `rollback`
    pub what: String,
    /// the generation that came of it
    pub generation: u64,
    /// of a return: why
    pub cause: Option<String>,
    /// milliseconds since 1970, UTC
    pub when_unix_ms: u64,
}

/// POST /v1/swap: puts another set in charge, as an operation
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Swap {
    /// the absolute path of another profile; left out: the VM's own, as it is on disk now
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<PathBuf>,
    /// files for plugins in charge
    #[serde(default)]
    pub plugins: Vec<SwapPlugin>,
    /// do all but the swap itself
    #[serde(default)]
    pub dry_run: bool,
    /// refuse unless the set in charge has this digest
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// what the set may do before it stays; left out: no probation
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probation: Option<ProbationTerms>,
}

/// another file for a plugin in charge
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SwapPlugin {
    /// the plugin's name
    pub name: String,
    /// the absolute path of the file
    pub file: PathBuf,
}

/// how long a new set is watched, and for what
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProbationTerms {
    /// it has passed after so many seconds, 86400 at most
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// it has passed after so many accesses
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accesses: Option<u64>,
    /// accesses that it may answer otherwise than the former set
    #[serde(default)]
    pub differences: u64,
    /// MSRs that it may answer otherwise as often as it likes: numbers, names or ranges
    #[serde(default)]
    pub may_differ: Vec<String>,
}

/// what a swap or a rollback came to
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Swapped {
    /// the generation that is in charge, or would be
    pub generation: u64,
    /// the digest of its set
    pub set: String,
    /// a line for each change of the set
    pub changes: Vec<String>,
    /// what became of the plugins
    pub plugins: Vec<SwappedPlugin>,
    /// whether other accesses exit than before
    pub filter_changed: bool,
    /// milliseconds in which everything was made ready
    pub prepared_ms: f64,
    /// microseconds for which vCPUs had to wait with an access
    pub cut_us: f64,
}

/// what became of a plugin
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct SwappedPlugin {
    /// its name
    pub name: String,
    /// `kept`, `carried` (with its state), `fresh` (without), `new` or `gone`
    pub state: String,
    /// what it lost, in words
    #[serde(default)]
    pub lost: Vec<String>,
}

/// what is given in place of a plugin's answer
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// KVM's own answer
    Kernel,
    /// a #GP in the guest
    Fault,
    /// a read gives 0, a write is dropped
    Ignore,
}

/// POST /v1/disable: takes a plugin out at once
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Disable {
    /// the plugin's name
    pub plugin: String,
    /// what is given in its place
    pub answer: Answer,
}

/// POST /v1/enable: lets a plugin answer again
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Enable {
    /// the plugin's name
    pub plugin: String,
}

/// POST /v1/record: begins or ends a recording, or writes out what a ring holds, as an
/// operation; one of the keys but `limit`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// record to this file, an absolute path
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// with `file`: end the recording before its file is larger than so many bytes
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// end the recording
    #[serde(default)]
    pub off: bool,
    /// write what the ring of `run --record-ring` holds to its file
    #[serde(default)]
    pub dump: bool,
}

/// POST /v1/log: sets how much is logged
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// the least that is logged
    pub level: LogLevel,
}

/// how much is logged
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// the answer to a POST that begins an operation
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Started {
    /// GET /v1/operations/ID says what became of it
    pub operation: u64,
}

/// GET /v1/operations/ID: how far an operation is
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Operation {
    /// its number, from 1 in each run
    pub id: u64,
    /// how far it is
    pub state: OperationState,
    /// of a swap or rollback that is done: what it came to
    pub result: Option<Swapped>,
    /// of one that failed: why
    pub error: Option<String>,
    /// of a swap with a probation: null until that is over, then `kept`, `returned: CAUSE`,
    /// `rolled back` or `ended`
    pub verdict: Option<String>,
}

/// how far an operation is
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OperationState {
    /// others come before it
    Queued,
    /// it is being done
    Running,
    /// it is done; a probation may follow
    Done,
    /// it was refused, and changed nothing
    Failed,
}

#[cfg(test)]
mod tests {
    use schemars::schema_for;
    use wasmsr_book::generated;
    use wasmsr_book::reference::Reference;

    use super::*;

    /// the messages of a VM's control socket, each a property
    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is made")]
    struct Messages {
        vm: VmInfo,
        swap: Swap,
        disable: Disable,
        enable: Enable,
        record: Record,
        log: Log,
        started: Started,
        operation: Operation,
    }

    #[test]
    fn the_reference_is_current() {
        let page = Reference::<Messages>::of("docs/control.md");
        page.table::<VmInfo>("vm");
        page.table::<PluginState>("plugin state");
        page.table::<Probation>("probation");
        page.table::<Last>("last");
        page.table::<Swap>("swap");
        page.table::<SwapPlugin>("swap plugin");
        page.table::<ProbationTerms>("probation terms");
        page.table::<Swapped>("swapped");
        page.table::<SwappedPlugin>("swapped plugin");
        page.table::<Disable>("disable");
        page.values::<Answer>("answer");
        page.table::<Enable>("enable");
        page.table::<Record>("record");
        page.table::<Log>("log");
        page.table::<Started>("started");
        page.table::<Operation>("operation");
        page.values::<OperationState>("operation state");
    }

    #[test]
    fn the_schema_is_current() {
        let schema = serde_json::to_string_pretty(&schema_for!(Messages)).unwrap();
        generated::hold_file("docs/schemas/control.json", &format!("{schema}\n"));
    }

    #[test]
    fn a_reader_passes_over_keys_that_it_does_not_know() {
        let told = r#"{"id": 3, "state": "done", "result": null, "error": null,
            "verdict": "kept", "news": [1]}"#;
        let operation: Operation = serde_json::from_str(told).unwrap();
        assert_eq!((operation.id, operation.verdict.as_deref()), (3, Some("kept")));
    }
}
