//! `wasmsr plugin pack` and `plugin manifest`: a manifest into a module's file, and out.

use std::fs;
use std::os::unix::fs::symlink;

use sha2::{Digest as _, Sha256};

use crate::fixture::{Outcome, Plugin, Workdir, apply, test};

const PLUGIN: Plugin = Plugin {
    name: "packed",
    manifest: r#"msr = [{ range = 0x1000, access = "r" }]"#,
    code: "(reads (i64.const 1))",
};

/// The module with these manifests, and the text of its own one.
fn workdir(manifests: &[&str]) -> Workdir {
    let workdir = Workdir::new();
    let sections: String =
        manifests.iter().map(|text| format!("(@custom \"wasmsr.manifest\" {text:?})")).collect();
    let module = format!(
        "(module {sections} (memory (export \"memory\") 1) (func (export \"wasmsr_abi_v1\"))
           (func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 1)))"
    );
    workdir.put("p.wasm", wat::parse_str(module).expect("it is a module"));
    workdir.put("p.toml", PLUGIN.manifest_text());
    workdir
}

#[apply(test)]
fn a_module_gets_its_manifest_and_shows_it() -> Outcome {
    for manifests in [&[][..], &["old"], &["old", "old", "older"]] {
        let workdir = workdir(manifests);
        let packed = workdir.wasmsr(&["plugin", "pack", "p.toml", "p.wasm"]).exited(0);
        let bytes = fs::read(workdir.path().join("p.wasm")).expect("the file is there");
        let digest: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert!(packed.stdout.contains(&digest), "{packed}");
        workdir.wasmsr(&["plugin", "inspect", "p.wasm"]).exited(0);
        let shown = workdir.wasmsr(&["plugin", "manifest", "p.wasm"]).exited(0);
        assert_eq!(shown.stdout, PLUGIN.manifest_text());
    }
    Ok(())
}

#[apply(test)]
fn another_file_may_take_it_and_links_stay() -> Outcome {
    let workdir = workdir(&[]);
    let before = fs::read(workdir.path().join("p.wasm")).expect("the file is there");
    workdir.wasmsr(&["plugin", "pack", "p.toml", "p.wasm", "-o", "q.wasm"]).exited(0);
    assert_eq!(fs::read(workdir.path().join("p.wasm")).expect("it stays"), before);
    symlink("p.wasm", workdir.path().join("link.wasm")).expect("a link can be made");
    workdir.wasmsr(&["plugin", "pack", "p.toml", "link.wasm"]).exited(0);
    let link = fs::symlink_metadata(workdir.path().join("link.wasm")).expect("it is there");
    assert!(link.is_symlink());
    workdir.wasmsr(&["plugin", "inspect", "p.wasm"]).exited(0);
    Ok(())
}

/// A slip of the hand must not cost the manifest, or another file.
#[apply(test)]
fn only_a_module_is_replaced() -> Outcome {
    let workdir = workdir(&[]);
    symlink("p.toml", workdir.path().join("link.toml")).expect("a link can be made");
    workdir.put("letter.txt", "a letter");
    workdir.put("empty.wasm", "");
    for (output, part) in [
        ("p.toml", "it is the manifest"),
        ("./p.toml", "it is the manifest"),
        ("link.toml", "it is the manifest"),
        ("letter.txt", "not a WebAssembly module; name another"),
    ] {
        let all = ["plugin", "pack", "p.toml", "p.wasm", "-o", output];
        workdir.wasmsr(&all).refused(&["cannot write", output, part]);
    }
    let kept = |name| fs::read_to_string(workdir.path().join(name)).expect("it stays");
    assert_eq!((kept("p.toml"), kept("letter.txt")), (PLUGIN.manifest_text(), "a letter".into()));
    workdir.wasmsr(&["plugin", "pack", "p.toml", "p.wasm", "-o", "empty.wasm"]).exited(0);
    Ok(())
}

#[apply(test)]
fn what_does_not_fit_together_leaves_the_file_alone() -> Outcome {
    let workdir = workdir(&["old"]);
    let before = fs::read(workdir.path().join("p.wasm")).expect("the file is there");
    workdir.put("bad.toml", "[plugin]\nname = \"P\"\n");
    workdir.put("writes.toml", PLUGIN.manifest_text().replace("\"r\"", "\"w\""));
    workdir.put("text.wasm", "text");
    for (arguments, parts) in [
        (["bad.toml", "p.wasm"], &["manifest bad.toml", "line "][..]),
        (["writes.toml", "p.wasm"], &["p.wasm", "no export `wrmsr`"]),
        (["p.toml", "text.wasm"], &["text.wasm", "not a WebAssembly module"]),
        (["none.toml", "p.wasm"], &["none.toml"]),
        (["p.toml", "/dev/null"], &["/dev/null", "not a regular file"]),
    ] {
        let all = [&["plugin", "pack"][..], &arguments].concat();
        workdir.wasmsr(&all).exited(2).said(parts);
    }
    assert_eq!(fs::read(workdir.path().join("p.wasm")).expect("it stays"), before);
    Ok(())
}

#[apply(test)]
fn a_module_without_or_with_several_manifests_is_told_what_happened() -> Outcome {
    let inspect = |manifests: &[&str], parts: &[&str]| {
        workdir(manifests).wasmsr(&["plugin", "inspect", "p.wasm"]).exited(2).said(parts);
    };
    inspect(&[], &["no custom section `wasmsr.manifest`", "`wasm-tools strip`", "plugin pack"]);
    inspect(&["a", "a"], &["more than one custom section", "`export!`", "plugin pack"]);
    inspect(&["a", "b"], &["more than one custom section", "`llvm-objcopy --add-section`"]);
    Ok(())
}
