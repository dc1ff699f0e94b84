//! One exporter for all VMs of a user.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::find::ask_all;
use crate::merged::{Told, merged};
use crate::prometheus;
use crate::request::{Answer, Request};
use crate::server::{Listener, Server};
use crate::statistics::{OfferError, not_offered};

/// How long a VM may take. A scrape waits for the slowest.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a text serves: readers cannot have the VMs asked more often than this.
const FRESH: Duration = Duration::from_secs(1);

/// Serves the metrics of all VMs of this user while it lives.
pub struct Exporter {
    address: Address,
    _server: Server,
}

impl Exporter {
    /// Serves them at an address.
    ///
    /// # Errors
    /// [`OfferError`]
    pub fn offer(address: &Address) -> Result<Self, OfferError> {
        let listener =
            Listener::at(address).map_err(|error| not_offered(address.clone(), error))?;
        let address = listener.address().clone();
        let collector = Mutex::new((Collector::default(), None::<(Instant, String)>));
        let answer = move |request: Request<'_>| {
            if (request.method, request.path) != ("GET", "/metrics") {
                return None;
            }
            let mut collector = collector.lock().unwrap_or_else(PoisonError::into_inner);
            let (collector, last) = &mut *collector;
            let text = match last {
                Some((since, text)) if since.elapsed() < FRESH => text.clone(),
                _ => {
                    let text = collector.collect();
                    *last = Some((Instant::now(), text.clone()));
                    text
                }
            };
            Some(Answer::ok(prometheus::CONTENT_TYPE, text))
        };
        let server = Server::start(vec![listener], answer).map_err(OfferError::Server)?;
        Ok(Exporter { address, _server: server })
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

/// The metrics of all VMs of this user, once.
pub fn metrics_of_all() -> String {
    Collector::default().collect()
}

/// Asks the VMs, and remembers their names.
#[derive(Default)]
struct Collector {
    /// By process: one that is silent has a name too, if it was told before.
    names: BTreeMap<u32, String>,
}

impl Collector {
    fn collect(&mut self) -> String {
        let (running, silent) = ask_all(&|vm| {
            let snapshot = vm.ask_for(PATIENCE)?;
            Ok((snapshot.pid, snapshot.name, vm.metrics(PATIENCE)?))
        });
        let running: Vec<_> = running.into_iter().map(|(_, told)| told).collect();
        let silent: Vec<u32> = silent.into_iter().map(|(process, _)| process).collect();
        self.names.retain(|process, _| silent.contains(process));
        for (process, name, _) in &running {
            let name = if name.is_empty() { process.to_string() } else { name.clone() };
            self.names.insert(*process, name);
        }
        for process in &silent {
            self.names.entry(*process).or_insert_with(|| process.to_string());
        }
        let labels = labels(&self.names);
        let label = |process: &u32| labels.get(process).cloned().unwrap_or_default();
        let mut told: Vec<Told> = labels
            .iter()
            .map(|(process, vm)| Told { vm: vm.clone(), text: up(!silent.contains(process)) })
            .collect();
        told.extend(
            running.into_iter().map(|(process, _, text)| Told { vm: label(&process), text }),
        );
        merged(&told)
    }
}

fn up(answers: impl Into<u8>) -> String {
    format!(
        "# HELP wasmsr_up Whether the VM answers.\n# TYPE wasmsr_up gauge\nwasmsr_up {}\n",
        answers.into()
    )
}

/// What the label says of each process: the VM's name, with the process if several have it,
/// since two series with the same labels are an error.
fn labels(names: &BTreeMap<u32, String>) -> BTreeMap<u32, String> {
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<&String> = names.values().filter(|name| !seen.insert(*name)).collect();
    let label = |(process, name): (&u32, &String)| match twice.contains(name) {
        true => (*process, format!("{name}:{process}")),
        false => (*process, name.clone()),
    };
    names.iter().map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_vms_with_one_name_have_labels_of_their_own() {
        let names = [(7, "web"), (8, "db"), (9, "web")];
        let names = names.map(|(process, name)| (process, name.to_owned())).into();
        let labels: Vec<String> = labels(&names).into_values().collect();
        assert_eq!(labels, ["web:7", "db", "web:9"]);
    }
}
