//! `wasmsr plugin`: the verbs for authors of plugins, one file per verb.

mod asks;
mod bench;
mod build;
mod cost;
mod inspect;
mod measure;
mod new;
mod pack;
mod recording_test;
mod report;
mod subject;
mod template;
mod test;

use crate::args::Plugin;
use crate::exit::{Code, Failure};

/// Runs one of the verbs.
pub(crate) fn perform(verb: &Plugin) -> Result<Code, Failure> {
    match verb {
        Plugin::New(args) => new::new(args),
        Plugin::Build(args) => build::build(args),
        Plugin::Test(args) => test::test(args),
        Plugin::Bench(args) => bench::bench(args),
        Plugin::Inspect(args) => inspect::inspect(args),
        Plugin::Pack(args) => pack::pack(args),
        Plugin::Manifest(args) => pack::manifest(args),
    }
}
