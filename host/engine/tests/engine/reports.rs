//! What plugins tell after the run.

use wasmsr_interface::{MsrHandler, Outcome, VcpuId};

use crate::fixture::{Setup, failures_at_no_access, plugin, read};

fn reporter(manifest: &str, body: &str) -> Vec<u8> {
    let body = format!(
        "(import \"wasmsr\" \"report_text\" (func $text (param i32 i32)))
         (data (i32.const 0) \"one\\ntwo\\1b[2J\")
         (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
            (call $text (i32.const 0) (i32.const 3)) (i64.const 1))
         (func (export \"report\") {body})"
    );
    plugin("reporter", manifest, &body)
}

const EACH: &str = "[[msr]]\nrange = \"0x10\"\naccess = \"r\"";

#[test]
fn each_instance_reports_once_with_no_control_characters() {
    let vm = "[[msr]]\nrange = \"0x11\"\naccess = \"r\"\nscope = \"vm\"";
    let bytes = reporter(&format!("{EACH}\n{vm}"), "(call $text (i32.const 0) (i32.const 11))");
    let (mut started, _) = Setup::new().with("p.wasm", bytes, "").start(2);
    assert!(started.reports.take().is_empty(), "the run has not ended");
    started.vcpus.iter_mut().for_each(MsrHandler::end);
    let reports = started.reports.take();
    let scopes: Vec<_> = reports.iter().map(|report| report.vcpu).collect();
    assert_eq!(scopes, [Some(VcpuId(0)), None, Some(VcpuId(1))]);
    assert!(reports.iter().all(|report| report.text == "one\ntwo\u{fffd}[2J"), "{reports:?}");
    assert!(started.reports.take().is_empty(), "they were taken");
}

#[test]
fn a_report_that_fails_harms_nobody() {
    for body in ["unreachable", "(loop (br 0))", "(call $text (i32.const 65535) (i32.const 2))"] {
        let (mut started, _) = Setup::new().with("p.wasm", reporter(EACH, body), "").start(1);
        started.vcpus[0].end();
        assert!(started.reports.take().is_empty(), "{body}");
        assert_eq!(failures_at_no_access(&started), [("reporter".to_owned(), 1)], "{body}");
    }
}

#[test]
fn a_report_is_cut_at_its_limit() {
    let body = "(call $text (i32.const 0) (i32.const 65536))";
    let (mut started, _) = Setup::new().with("p.wasm", reporter(EACH, body), "").start(1);
    started.vcpus[0].end();
    let reports = started.reports.take();
    assert_eq!(reports[0].text.chars().count(), 65536);
}

#[test]
fn an_access_has_no_report() {
    let (mut started, _) = Setup::new().with("p.wasm", reporter(EACH, ""), "").start(1);
    assert_eq!(read(&mut started.vcpus[0], 0x10), Outcome::Fault);
    started.vcpus[0].end();
    assert!(started.reports.take().is_empty());
}
