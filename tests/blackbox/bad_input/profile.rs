//! The command line and the profile.

use std::fs::File;

use sha2::{Digest as _, Sha256};

use super::{GOOD, HELLO, READ, refuses, refuses_entry, refuses_plugins, refuses_profile};
use crate::fixture::{Outcome, Plugin, Workdir, apply, test};

#[apply(test)]
fn no_arguments() -> Outcome {
    Workdir::new().wasmsr(&[]).exited(2).said(&["Usage"]);
    Ok(())
}

#[apply(test)]
fn unknown_verb() -> Outcome {
    Workdir::new().wasmsr(&["chekc", "vm.toml"]).refused(&["chekc", "check"]);
    Ok(())
}

#[apply(test)]
fn missing_profile() -> Outcome {
    refuses(&Workdir::new(), &["vm.toml", "No such file"])
}

#[apply(test)]
fn profile_that_is_not_toml() -> Outcome {
    refuses_profile("[vm]\nmemory 256\n", &["vm.toml", "line 2"])
}

#[apply(test)]
fn profile_that_is_not_text() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("vm.toml", [0xff, 0xfe, 0x00]);
    refuses(&workdir, &["vm.toml", "UTF-8"])
}

/// A file that was meant for something else: it is refused before all of it is read.
#[apply(test)]
fn what_is_too_large_for_a_profile() -> Outcome {
    let workdir = Workdir::new();
    let file = File::create(workdir.path().join("vm.toml")).expect("a file can be made");
    file.set_len(1 << 40).expect("it may have holes");
    refuses(&workdir, &["vm.toml", "it is larger than 4 MiB, which no profile is"])?;
    workdir.put("good.toml", HELLO);
    let too_large = ["check", "good.toml", "--diff", "vm.toml"];
    workdir.wasmsr(&too_large).refused(&["larger than 16 MiB, which no contract is"]);
    for arguments in [
        &["check", "/dev/zero"][..],
        &["run", "/dev/zero"],
        &["explain", "0x10", "--profile", "/dev/zero"],
        &["check", "good.toml", "--diff", "/dev/zero"],
    ] {
        workdir.wasmsr(arguments).refused(&["/dev/zero", "it is a device"]);
    }
    Ok(())
}

#[apply(test)]
fn unknown_key() -> Outcome {
    refuses_profile(
        &format!("[vm]\nmemroy = \"256MiB\"\n{HELLO}"),
        &["vm.toml", "line 2", "`memroy`", "`memory`"],
    )
}

#[apply(test)]
fn unknown_key_of_a_plugin() -> Outcome {
    refuses_profile(
        &format!("{HELLO}[[plugin]]\npath = \"good.wasm\"\non-failiure = \"stop\"\n"),
        &["vm.toml", "line 5", "`on-failiure`", "`on-failure`"],
    )
}

#[apply(test)]
fn unknown_section() -> Outcome {
    refuses_profile(
        &format!("{HELLO}[[plugins]]\npath = \"good.wasm\"\n"),
        &["vm.toml", "line 3", "`plugins`", "`plugin`"],
    )
}

#[apply(test)]
fn unknown_policy() -> Outcome {
    refuses_profile(
        &format!("{HELLO}[msr]\nunknown = \"ingore\"\n"),
        &["vm.toml", "line 4", "`ingore`", "`ignore`"],
    )
}

#[apply(test)]
fn nothing_to_boot() -> Outcome {
    refuses_profile("[vm]\nvcpus = 1\n", &["vm.toml", "boot", "kernel", "image", "guest"])
}

#[apply(test)]
fn two_things_to_boot() -> Outcome {
    refuses_profile(
        "[boot]\nguest = \"hello\"\nimage = \"x.elf\"\n",
        &["vm.toml", "`guest`", "`image`"],
    )
}

#[apply(test)]
fn unknown_built_in_guest() -> Outcome {
    refuses_profile("[boot]\nguest = \"helo\"\n", &["vm.toml", "`helo`", "hello"])
}

#[apply(test)]
fn memory_that_does_not_fit() -> Outcome {
    refuses_profile(&format!("[vm]\nmemory = \"4000000GiB\"\n{HELLO}"), &["vm.toml", "memory"])
}

#[apply(test)]
fn memory_that_is_not_a_size() -> Outcome {
    refuses_profile(
        &format!("[vm]\nmemory = \"much\"\n{HELLO}"),
        &["vm.toml", "line 2", "much", "MiB"],
    )
}

#[apply(test)]
fn no_vcpus() -> Outcome {
    refuses_profile(&format!("[vm]\nvcpus = 0\n{HELLO}"), &["vm.toml", "vcpus"])
}

#[apply(test)]
fn too_many_vcpus() -> Outcome {
    refuses_profile(&format!("[vm]\nvcpus = 100000\n{HELLO}"), &["vm.toml", "vcpus", "100000"])
}

#[apply(test)]
fn missing_plugin() -> Outcome {
    refuses_profile(
        &format!("{HELLO}[[plugin]]\npath = \"nowhere.wasm\"\n"),
        &["vm.toml", "nowhere.wasm", "No such file"],
    )
}

#[apply(test)]
fn wrong_hash() -> Outcome {
    let expected = "00".repeat(32);
    let got: String =
        Sha256::digest(GOOD.wasm()).iter().map(|byte| format!("{byte:02x}")).collect();
    refuses_entry(&GOOD.wasm(), &format!("sha256 = \"{expected}\""), &["sha256", &expected, &got])
}

#[apply(test)]
fn hash_that_is_not_a_hash() -> Outcome {
    refuses_profile(
        &format!("{HELLO}[[plugin]]\npath = \"good.wasm\"\nsha256 = \"abc\"\n"),
        &["vm.toml", "line 5", "SHA-256", "64"],
    )
}

#[apply(test)]
fn unknown_capability() -> Outcome {
    refuses_profile(
        &format!("{HELLO}[[plugin]]\npath = \"good.wasm\"\ngrant = [\"guest-memroy\"]\n"),
        &["vm.toml", "line 5", "guest-memroy", "guest-memory"],
    )
}

#[apply(test)]
fn overlapping_claims() -> Outcome {
    let other = Plugin {
        name: "other",
        manifest: r#"msr = [{ range = "0xfff-0x1001", access = "r" }]"#,
        code: READ,
    };
    refuses_plugins(&[GOOD, other], &["good", "other", "0x1000", "read", "fallback = true"])
}

#[apply(test)]
fn two_plugins_of_one_name() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("good.wasm", GOOD.wasm());
    workdir.put("copy.wasm", GOOD.wasm());
    workdir.put(
        "vm.toml",
        format!("{HELLO}[[plugin]]\npath = \"good.wasm\"\n[[plugin]]\npath = \"copy.wasm\"\n"),
    );
    refuses(&workdir, &["good.wasm", "copy.wasm", "`good`"])
}
