//! The command line and the profile.

use libtest_mimic::Trial;
use sha2::{Digest as _, Sha256};

use super::{GOOD, HELLO, READ, refuses, refuses_entry, refuses_plugins, refuses_profile};
use crate::fixture::{Outcome, Plugin, Workdir, trials};

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        no_arguments,
        unknown_verb,
        missing_profile,
        profile_that_is_no_toml,
        profile_that_is_no_text,
        unknown_key,
        unknown_key_of_a_plugin,
        unknown_section,
        unknown_policy,
        nothing_to_boot,
        two_things_to_boot,
        unknown_built_in_guest,
        memory_that_does_not_fit,
        memory_that_is_no_size,
        no_vcpus,
        too_many_vcpus,
        missing_plugin,
        wrong_hash,
        hash_that_is_no_hash,
        unknown_capability,
        overlapping_claims,
        two_plugins_of_one_name,
    ]
}

fn no_arguments() -> Outcome {
    Workdir::new().wasmsr(&[]).exited(2).said(&["Usage"]);
    Ok(())
}

fn unknown_verb() -> Outcome {
    Workdir::new().wasmsr(&["chekc", "vm.toml"]).refused(&["chekc", "check"]);
    Ok(())
}

fn missing_profile() -> Outcome {
    refuses(&Workdir::new(), &["vm.toml", "No such file"])
}

fn profile_that_is_no_toml() -> Outcome {
    refuses_profile("[vm]\nmemory 256\n", &["vm.toml", "line 2"])
}

fn profile_that_is_no_text() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("vm.toml", [0xff, 0xfe, 0x00]);
    refuses(&workdir, &["vm.toml", "UTF-8"])
}

fn unknown_key() -> Outcome {
    refuses_profile(
        &format!("[vm]\nmemroy = \"256MiB\"\n{HELLO}"),
        &["vm.toml", "line 2", "`memroy`", "`memory`"],
    )
}

fn unknown_key_of_a_plugin() -> Outcome {
    refuses_profile(
        &format!("{HELLO}[[plugin]]\npath = \"good.wasm\"\non-failiure = \"stop\"\n"),
        &["vm.toml", "line 5", "`on-failiure`", "`on-failure`"],
    )
}

fn unknown_section() -> Outcome {
    refuses_profile(
        &format!("{HELLO}[[plugins]]\npath = \"good.wasm\"\n"),
        &["vm.toml", "line 3", "`plugins`", "`plugin`"],
    )
}

fn unknown_policy() -> Outcome {
    refuses_profile(
        &format!("{HELLO}[msr]\nunknown = \"ingore\"\n"),
        &["vm.toml", "line 4", "`ingore`", "`ignore`"],
    )
}

fn nothing_to_boot() -> Outcome {
    refuses_profile("[vm]\nvcpus = 1\n", &["vm.toml", "boot", "kernel", "image", "guest"])
}

fn two_things_to_boot() -> Outcome {
    refuses_profile(
        "[boot]\nguest = \"hello\"\nimage = \"x.elf\"\n",
        &["vm.toml", "`guest`", "`image`"],
    )
}

fn unknown_built_in_guest() -> Outcome {
    refuses_profile("[boot]\nguest = \"helo\"\n", &["vm.toml", "`helo`", "hello"])
}

fn memory_that_does_not_fit() -> Outcome {
    refuses_profile(&format!("[vm]\nmemory = \"4000000GiB\"\n{HELLO}"), &["vm.toml", "memory"])
}

fn memory_that_is_no_size() -> Outcome {
    refuses_profile(
        &format!("[vm]\nmemory = \"much\"\n{HELLO}"),
        &["vm.toml", "line 2", "much", "MiB"],
    )
}

fn no_vcpus() -> Outcome {
    refuses_profile(&format!("[vm]\nvcpus = 0\n{HELLO}"), &["vm.toml", "vcpus"])
}

fn too_many_vcpus() -> Outcome {
    refuses_profile(&format!("[vm]\nvcpus = 100000\n{HELLO}"), &["vm.toml", "vcpus", "100000"])
}

fn missing_plugin() -> Outcome {
    refuses_profile(
        &format!("{HELLO}[[plugin]]\npath = \"nowhere.wasm\"\n"),
        &["vm.toml", "nowhere.wasm", "No such file"],
    )
}

fn wrong_hash() -> Outcome {
    let expected = "00".repeat(32);
    let got: String =
        Sha256::digest(GOOD.wasm()).iter().map(|byte| format!("{byte:02x}")).collect();
    refuses_entry(&GOOD.wasm(), &format!("sha256 = \"{expected}\""), &["sha256", &expected, &got])
}

fn hash_that_is_no_hash() -> Outcome {
    refuses_profile(
        &format!("{HELLO}[[plugin]]\npath = \"good.wasm\"\nsha256 = \"abc\"\n"),
        &["vm.toml", "line 5", "SHA-256", "64"],
    )
}

fn unknown_capability() -> Outcome {
    refuses_profile(
        &format!("{HELLO}[[plugin]]\npath = \"good.wasm\"\ngrant = [\"guest-memroy\"]\n"),
        &["vm.toml", "line 5", "guest-memroy", "guest-memory"],
    )
}

fn overlapping_claims() -> Outcome {
    let other = Plugin {
        name: "other",
        manifest: r#"msr = [{ range = "0xfff-0x1001", access = "r" }]"#,
        code: READ,
    };
    refuses_plugins(&[GOOD, other], &["good", "other", "0x1000", "read", "fallback = true"])
}

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
