//! `mirrorball image` from the outside: what is listed, and what is said of requests that nobody
//! could meet. A machine without apt or its lists says so and counts.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::path::Path;
use std::process::{Command, Output};

fn image(cache: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mirrorball"))
        .env("XDG_CACHE_HOME", cache)
        .arg("image")
        .args(words)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What lies in a folder, but for locks and apt's own files.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names
        .filter(|name| name != ".lock" && name != "apt")
        .collect()
}

#[test]
fn a_folders_image_is_made_and_listed() {
    let (cache, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let none = text(&image(cache.path(), &["list"]).stdout);
    assert_eq!(none.matches("  none\n").count(), 2, "{none}");
    std::fs::write(files.path().join("a"), "a line\n").unwrap();
    let made = image(cache.path(), &[files.path().to_str().unwrap()]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let listed = image(cache.path(), &["list", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let path = listed["disks"][0]["path"].as_str().unwrap();
    assert!(text(&made.stdout).contains(path), "{path}");
    assert_eq!(listed["linux"].as_array().unwrap().len(), 0);
}

#[test]
fn what_debian_does_not_have_is_refused_with_what_it_has() {
    let cache = tempfile::tempdir().unwrap();
    let told = |words: &[&str]| {
        let words = [&["linux", "--kernel", "6.12"], words].concat();
        let output = image(cache.path(), &words);
        (output.status.code(), text(&output.stderr))
    };
    let (code, said) = told(&["--version", "1.2.3"]);
    if code == Some(4) {
        eprintln!("NOT RUN (1): requests to apt: {said}");
        return;
    }
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("no version 1.2.3; there is 6.12."),
        "what there is was not told: {said}"
    );
    assert_eq!(names(&cache.path().join("mirrorball/debian")), [""; 0]);
    let (code, said) = told(&["--root", "/no/such/root.ext4"]);
    assert!(said.contains("/no/such/root.ext4"), "{said}");
    assert_eq!(code, Some(4), "{said}");
    let (code, _) = told(&["--root", "none", "--package", "make"]);
    assert_eq!(code, Some(2));
    assert_eq!(names(&cache.path().join("mirrorball/debian")), [""; 0]);
}

/// An experiment whose one guest has this memory and boots this.
fn experiment(memory: &str, linux: &str) -> String {
    format!(
        "version: 1\nname: bad\nmachine: {{ memory: 1 GiB }}\nguests:\n  - id: one\n    count: 1\n    \
         kind: linux\n    memory: {memory}\n    linux: {{ {linux}, run: [\"true\"] }}\n\
         matrix: [disk]\n"
    )
}

#[test]
fn what_no_guest_could_boot_is_refused_before_anything_is_downloaded_or_started() {
    let (cache, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut arm = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0".to_vec();
    arm.resize(4096, 0);
    std::fs::write(files.path().join("arm"), arm).unwrap();
    std::fs::write(files.path().join("text"), "no kernel\n".repeat(100)).unwrap();
    let file = files.path().join("bad.yaml");
    let cases = [
        ("kernel: ./text", "neither a bzImage nor an ELF file"),
        ("kernel: ./arm", "another machine than x86-64"),
        ("kernel: \"6.12\", root: { image: text }", "text: "),
    ];
    for (linux, reason) in cases {
        std::fs::write(&file, experiment("256 MiB", linux)).unwrap();
        // The emulated host is not even looked for.
        for words in [&["image"][..], &["run", "--host", "emulated"]] {
            let done = Command::new(env!("CARGO_BIN_EXE_mirrorball"))
                .env("XDG_CACHE_HOME", cache.path())
                .env("PATH", "/no/such/folder")
                .args(words)
                .arg(&file)
                .output()
                .unwrap();
            let said = text(&done.stderr);
            assert_eq!(done.status.code(), Some(3), "{words:?} {linux}: {said}");
            assert!(said.contains(reason), "{words:?} {linux}: {said}");
        }
    }
    assert_eq!(names(&cache.path().join("mirrorball/debian")), [""; 0]);
}

#[test]
fn too_little_memory_for_a_kernel_is_told_with_the_least_that_is_enough() {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("small.yaml");
    // The usual cache: what else the tests need of it is there, too.
    let image = |memory: &str| {
        std::fs::write(&file, experiment(memory, "kernel: \"6.12\", root: none")).unwrap();
        let done = Command::new(env!("CARGO_BIN_EXE_mirrorball"))
            .arg("image")
            .arg(&file)
            .output()
            .unwrap();
        (done.status.code(), text(&done.stderr))
    };
    let (code, said) = image("64 MiB");
    if code == Some(4) {
        eprintln!("NOT RUN (1): a kernel's least memory: {said}");
        return;
    }
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("guests `one`: 64 MiB of memory are too little"),
        "{said}"
    );
    let least = said.split("at least ").nth(1).unwrap();
    let least: u64 = least.split(' ').next().unwrap().parse().unwrap();
    assert!((65..200).contains(&least), "{said}");
    let (code, said) = image(&format!("{} MiB", least.next_multiple_of(2)));
    assert_eq!(code, Some(0), "{said}");
}
