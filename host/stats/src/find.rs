//! Finds running VMs: all of the user, or the one that is meant.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::client::{AskError, Vm};
use crate::directory;
use crate::snapshot::Snapshot;

/// Why no VM, or more than one, is the one that is meant.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// There is none.
    #[error("no VM of this user runs; `wasmsr run` starts one")]
    None,
    /// None was named and there are several.
    #[error("several VMs run; say which one, by name, process or profile:\n{list}")]
    Unnamed {
        /// One line per VM.
        list: String,
    },
    /// None has this name.
    #[error("no VM that answers is `{wanted}`; there are:\n{list}")]
    Unknown {
        /// The name.
        wanted: String,
        /// One line per VM.
        list: String,
    },
    /// Several have this name.
    #[error("several VMs that run are `{wanted}`; name one by its process:\n{list}")]
    Ambiguous {
        /// The name.
        wanted: String,
        /// One line per VM.
        list: String,
    },
    /// The socket that was named belongs to a VM that has ended.
    #[error("{}: the VM has ended", .0.display())]
    Gone(PathBuf),
    /// The VM at the socket that was named gives no statistics.
    #[error(transparent)]
    Socket(AskError),
    /// The process that was named gives no statistics, or the only one there is.
    #[error("process {process} does not answer: {error}")]
    Silent {
        /// The process.
        process: u32,
        /// Why not.
        error: AskError,
    },
}

impl FindError {
    /// Whether another name may help. If not, the VM that is meant does not answer.
    pub fn is_about_the_name(&self) -> bool {
        match self {
            FindError::None
            | FindError::Unnamed { .. }
            | FindError::Unknown { .. }
            | FindError::Ambiguous { .. } => true,
            FindError::Gone(_) | FindError::Socket(_) | FindError::Silent { .. } => false,
        }
    }
}

/// The VMs of this user.
#[derive(Debug)]
pub struct Round {
    /// Those that answer.
    pub running: Vec<(Vm, Snapshot)>,
    /// The processes of those that do not, and why.
    pub silent: Vec<(u32, AskError)>,
}

impl Round {
    /// Asks all of them at the same time, so that a slow one delays no other.
    pub fn ask() -> Self {
        let (running, silent) = ask_all(&Vm::ask);
        Round { running, silent }
    }

    /// One line per VM.
    fn list(&self) -> String {
        let running = self.running.iter();
        let running = running.map(|(_, vm)| format!("  {}  {}  {}", vm.pid, vm.name, vm.profile));
        let silent = self.silent.iter();
        let silent = silent.map(|(process, error)| format!("  {process}  no answer: {error}"));
        running.chain(silent).collect::<Vec<_>>().join("\n")
    }
}

/// The VMs that answer, and the processes of those that do not.
type Answered<T> = (Vec<(Vm, T)>, Vec<(u32, AskError)>);

/// Asks all VMs of this user at the same time.
pub(crate) fn ask_all<T: Send>(ask: &(dyn Fn(&Vm) -> Result<T, AskError> + Sync)) -> Answered<T> {
    let (mut running, mut silent) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        let asked: Vec<_> = directory::sockets()
            .into_iter()
            .map(|(process, socket)| {
                let vm = Vm::at(socket);
                let asked = vm.clone();
                let asking = move || ask(&asked);
                (process, vm, thread::Builder::new().spawn_scoped(scope, asking))
            })
            .collect();
        for (process, vm, thread) in asked {
            let answer = match thread.map(thread::ScopedJoinHandle::join) {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(vm.trouble(io::Error::other("the thread panicked"))),
                Err(error) => Err(vm.trouble(error)),
            };
            match answer {
                Ok(told) => running.push((vm, told)),
                Err(AskError::Gone) => {}
                Err(error) => silent.push((process, error)),
            }
        }
    });
    (running, silent)
}

/// The VM that is meant: by its name, its process, its socket, or its profile; the only one,
/// if nothing is named.
///
/// # Errors
/// [`FindError`]
pub fn find(wanted: Option<&str>) -> Result<(Vm, Snapshot), FindError> {
    match wanted {
        None => the_only_one(Round::ask()),
        Some(wanted) => at_socket(Path::new(wanted))
            .or_else(|| of_process(wanted))
            .unwrap_or_else(|| among(Round::ask(), wanted)),
    }
}

/// As [`find`] for a name, but a process whose VM is silent is known after `patience`.
///
/// # Errors
/// [`FindError`]
pub fn find_within(wanted: &str, patience: Duration) -> Result<(Vm, Snapshot), FindError> {
    let silent = process_of(wanted).and_then(|process| {
        let error = at_process(process)?.ask_for(patience).err()?;
        (!matches!(error, AskError::Gone)).then_some(FindError::Silent { process, error })
    });
    silent.map_or_else(|| find(Some(wanted)), Err)
}

/// The process that a name of a VM is, if it is one.
pub fn process_of(wanted: &str) -> Option<u32> {
    wanted.parse().ok()
}

/// The VM of a process, whether or not it answers.
pub fn at_process(process: u32) -> Option<Vm> {
    directory::sockets_of(process).pop().map(Vm::at)
}

fn the_only_one(mut round: Round) -> Result<(Vm, Snapshot), FindError> {
    if round.running.len() + round.silent.len() > 1 {
        return Err(FindError::Unnamed { list: round.list() });
    }
    match (round.running.pop(), round.silent.pop()) {
        (Some(found), _) => Ok(found),
        (None, Some((process, error))) => Err(FindError::Silent { process, error }),
        (None, None) => Err(FindError::None),
    }
}

/// The one of the VMs that `wanted` names.
fn among(round: Round, wanted: &str) -> Result<(Vm, Snapshot), FindError> {
    if round.running.is_empty() && round.silent.is_empty() {
        return Err(FindError::None);
    }
    let (list, wanted_name) = (round.list(), wanted.to_owned());
    let mut found = round.running;
    // A name is chosen for this; a profile may be that of many VMs.
    let is_named = |(_, snapshot): &(Vm, Snapshot)| snapshot.name == wanted;
    match found.iter().any(is_named) {
        true => found.retain(is_named),
        false => found.retain(|(_, snapshot)| is_meant(snapshot, wanted)),
    }
    match (found.pop(), found.is_empty()) {
        (Some(found), true) => Ok(found),
        (Some(_), false) => Err(FindError::Ambiguous { wanted: wanted_name, list }),
        (None, _) => Err(FindError::Unknown { wanted: wanted_name, list }),
    }
}

/// The VM at a socket; `None` if the path is certainly not one.
fn at_socket(path: &Path) -> Option<Result<(Vm, Snapshot), FindError>> {
    let vm = Vm::at(path.to_owned());
    let asked = match fs::metadata(path) {
        Ok(found) if found.file_type().is_socket() => vm.ask(),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(vm.trouble(error)),
        _ => return None,
    };
    Some(match asked {
        Ok(snapshot) => Ok((vm, snapshot)),
        Err(AskError::Gone) => Err(FindError::Gone(path.to_owned())),
        Err(error) => Err(FindError::Socket(error)),
    })
}

/// The VM of a process, if it listens at a socket.
fn of_process(wanted: &str) -> Option<Result<(Vm, Snapshot), FindError>> {
    let wanted: u32 = wanted.parse().ok()?;
    let sockets = directory::sockets().into_iter().filter(|(process, _)| *process == wanted);
    sockets.map(|(_, socket)| Vm::at(socket)).find_map(|vm| match vm.ask() {
        Ok(snapshot) => Some(Ok((vm, snapshot))),
        Err(AskError::Gone) => None,
        Err(error) => Some(Err(FindError::Silent { process: wanted, error })),
    })
}

fn is_meant(snapshot: &Snapshot, wanted: &str) -> bool {
    let profile = Path::new(&snapshot.profile);
    let names = [profile.file_name(), profile.file_stem(), Some(profile.as_os_str())];
    let same_file = std::path::absolute(wanted).is_ok_and(|wanted| wanted == profile);
    snapshot.pid.to_string() == wanted
        || same_file
        || names.iter().flatten().any(|name| *name == wanted)
}
