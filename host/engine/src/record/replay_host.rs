//! A host that answers from a log: a plugin gets the replies that another plugin, or
//! the same one at another time, was given to the same calls.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use wasmsr_interface::{
    ExitList, ExitsCause, ExitsRefused, Host, Initiator, MsrIndex, OutsideMemory, VcpuId, VcpuTimes,
};

use super::call::{HostCall, Switch};
use super::call_log::LoggedCall;

/// Gives a plugin the replies that `plugin` was given to the same calls, out of the
/// log that [`replaying`] has. Calls that are not in it go to `otherwise`.
pub(crate) struct ReplayHost {
    plugin: Arc<str>,
    otherwise: Arc<dyn Host>,
}

/// How far among the logged calls of its plugin a call is looked for: a plugin that
/// asks in another order still gets its replies, and one that asks for other things
/// does not cost a long search.
const LOOK_AHEAD: usize = 64;

/// Replies that are not used up.
#[derive(Default)]
struct Replies {
    calls: BTreeMap<Arc<str>, VecDeque<HostCall>>,
    unmatched: u64,
}

thread_local! {
    /// The replies of the call of [`replaying`] that runs on this thread.
    static REPLIES: RefCell<Replies> = RefCell::default();
}

/// Runs `f` with the replies of logged calls. Says how many calls to
/// [`ReplayHost`]s had no reply among them.
pub(crate) fn replaying<R>(logged: Vec<LoggedCall>, f: impl FnOnce() -> R) -> (R, u64) {
    let mut replies = Replies::default();
    for LoggedCall { plugin, call } in logged {
        replies.calls.entry(plugin).or_default().push_back(call);
    }
    let outer = REPLIES.replace(replies);
    let result = f();
    (result, REPLIES.replace(outer).unmatched)
}

impl ReplayHost {
    pub(crate) fn new(plugin: Arc<str>, otherwise: Arc<dyn Host>) -> Self {
        ReplayHost { plugin, otherwise }
    }

    /// The reply to the next call that `fits`, which is then used up.
    fn reply<R>(&self, fits: impl Fn(&HostCall) -> Option<R>) -> Option<R> {
        REPLIES.with_borrow_mut(|replies| {
            let found = replies.calls.get_mut(&self.plugin).and_then(|own| {
                let mut near = own.iter().take(LOOK_AHEAD).enumerate();
                let found = near.find_map(|(position, call)| Some((position, fits(call)?)));
                let (position, reply) = found?;
                own.remove(position);
                Some(reply)
            });
            replies.unmatched += u64::from(found.is_none());
            found
        })
    }
}

impl Host for ReplayHost {
    fn guest_tsc(&self, vcpu: VcpuId) -> u64 {
        self.reply(|call| match call {
            HostCall::Tsc { vcpu: of, value } if *of == vcpu.0 => Some(value.0),
            _ => None,
        })
        .unwrap_or_else(|| self.otherwise.guest_tsc(vcpu))
    }

    fn tsc_khz(&self) -> u32 {
        self.reply(|call| match call {
            HostCall::TscKhz { value } => Some(*value),
            _ => None,
        })
        .unwrap_or_else(|| self.otherwise.tsc_khz())
    }

    fn monotonic_ns(&self) -> u64 {
        self.reply(|call| match call {
            HostCall::MonotonicNs { value } => Some(value.0),
            _ => None,
        })
        .unwrap_or_else(|| self.otherwise.monotonic_ns())
    }

    fn realtime_ns(&self) -> u64 {
        self.reply(|call| match call {
            HostCall::RealtimeNs { value } => Some(value.0),
            _ => None,
        })
        .unwrap_or_else(|| self.otherwise.realtime_ns())
    }

    fn tsc_is_stable(&self) -> bool {
        self.reply(|call| match call {
            HostCall::TscIsStable { value } => Some(*value),
            _ => None,
        })
        .unwrap_or_else(|| self.otherwise.tsc_is_stable())
    }

    fn vcpu_times(&self, vcpu: VcpuId) -> Option<VcpuTimes> {
        self.reply(|call| match call {
            HostCall::VcpuTimes { vcpu: of, value } if *of == vcpu.0 => {
                Some(value.map(|(ran, waited)| VcpuTimes { ran_ns: ran.0, waited_ns: waited.0 }))
            }
            _ => None,
        })
        .unwrap_or_else(|| self.otherwise.vcpu_times(vcpu))
    }

    fn read_memory(&self, gpa: u64, out: &mut [u8]) -> Result<(), OutsideMemory> {
        let len = out.len();
        let data = self.reply(|call| match call {
            HostCall::GuestRead { gpa: of, len: length, data } if (of.0, *length) == (gpa, len) => {
                Some(data.clone())
            }
            _ => None,
        });
        match data {
            // What a file says may not be as long as it says.
            Some(Some(data)) if data.0.len() == len => {
                out.copy_from_slice(&data.0);
                Ok(())
            }
            Some(_) => Err(OutsideMemory { gpa, len }),
            None => self.otherwise.read_memory(gpa, out),
        }
    }

    fn write_memory(&self, gpa: u64, data: &[u8]) -> Result<(), OutsideMemory> {
        let done = self.reply(|call| match call {
            HostCall::GuestWrite { gpa: of, data: bytes, done }
                if of.0 == gpa && bytes.0 == data =>
            {
                Some(*done)
            }
            _ => None,
        });
        match done {
            Some(true) => Ok(()),
            Some(false) => Err(OutsideMemory { gpa, len: data.len() }),
            None => self.otherwise.write_memory(gpa, data),
        }
    }

    fn kvm_msr(&self, vcpu: VcpuId, index: MsrIndex, initiator: Initiator) -> Option<u64> {
        let asked = (vcpu.0, index, initiator == Initiator::Guest);
        self.reply(|call| match call {
            HostCall::KvmRdmsr { vcpu, msr, as_guest, value }
                if (*vcpu, *msr, *as_guest) == asked =>
            {
                Some(value.map(|value| value.0))
            }
            _ => None,
        })
        .unwrap_or_else(|| self.otherwise.kvm_msr(vcpu, index, initiator))
    }

    fn set_kvm_msr(&self, vcpu: VcpuId, index: MsrIndex, value: u64, initiator: Initiator) -> bool {
        let asked = (vcpu.0, index, value, initiator == Initiator::Guest);
        self.reply(|call| match call {
            HostCall::KvmWrmsr { vcpu, msr, value, as_guest, done }
                if (*vcpu, *msr, value.0, *as_guest) == asked =>
            {
                Some(*done)
            }
            _ => None,
        })
        .unwrap_or_else(|| self.otherwise.set_kvm_msr(vcpu, index, value, initiator))
    }

    fn host_msr(&self, cpu: Option<u32>, index: MsrIndex) -> Option<u64> {
        self.reply(|call| match call {
            HostCall::HostRdmsr { cpu: of, msr, value } if (*of, *msr) == (cpu, index) => {
                Some(value.map(|value| value.0))
            }
            _ => None,
        })
        .unwrap_or_else(|| self.otherwise.host_msr(cpu, index))
    }

    fn host_cpus(&self) -> u32 {
        self.reply(|call| match call {
            HostCall::HostCpus { value } => Some(*value),
            _ => None,
        })
        .unwrap_or_else(|| self.otherwise.host_cpus())
    }

    fn read_host_file(&self, path: &Path, out: &mut [u8]) -> Option<usize> {
        let data = self.reply(|call| match call {
            HostCall::HostFile { path: of, room, data } if of == path && *room == out.len() => {
                Some(data.clone())
            }
            _ => None,
        });
        match data {
            Some(data) => {
                let data = data?.0;
                out.get_mut(..data.len())?.copy_from_slice(&data);
                Some(data.len())
            }
            None => self.otherwise.read_host_file(path, out),
        }
    }

    fn set_exits(&self, exits: &ExitList, cause: &ExitsCause) -> Result<(), ExitsRefused> {
        let switch = Switch::of(cause);
        let refused = self.reply(|call| match call {
            HostCall::SetExits { switch: of, refused } if of.is_none() || *of == switch => {
                Some(refused.clone())
            }
            _ => None,
        });
        match refused {
            Some(None) => Ok(()),
            Some(Some(why)) => Err(ExitsRefused(why)),
            None => self.otherwise.set_exits(exits, cause),
        }
    }

    fn wake_at(&self, vcpu: VcpuId, at: u64) {
        let known = self.reply(|call| match call {
            HostCall::WakeAt { vcpu: of, at: when } if (*of, when.0) == (vcpu.0, at) => Some(()),
            _ => None,
        });
        if known.is_none() {
            self.otherwise.wake_at(vcpu, at);
        }
    }
}
