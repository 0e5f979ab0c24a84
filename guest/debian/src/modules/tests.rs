//! The closure on made-up kernels of made-up modules.

use super::*;

/// A relocatable ELF file with a `.modinfo` of these lines: header, the two sections' contents, and
/// three section headers.
pub(super) fn module(lines: &[&str]) -> Vec<u8> {
    const HEADER: usize = 64;
    let info: Vec<u8> = lines
        .iter()
        .flat_map(|line| [line.as_bytes(), b"\0"].concat())
        .collect();
    let names = b"\0.modinfo\0.shstrtab\0";
    let table = (HEADER + info.len() + names.len()).next_multiple_of(8);
    let mut raw = b"\x7fELF\x02\x01\x01".to_vec();
    raw.resize(16, 0);
    // ET_REL, EM_X86_64, version 1.
    raw.extend([1, 0, 62, 0, 1, 0, 0, 0]);
    raw.extend([0; 16]);
    raw.extend((table as u64).to_le_bytes());
    // Flags; sizes of headers; 3 sections, names in the last.
    raw.extend([0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 64, 0, 3, 0, 2, 0]);
    assert_eq!(raw.len(), HEADER);
    raw.extend(&info);
    raw.extend(names);
    raw.resize(table + 64, 0);
    for (name, kind, at, size) in [
        (1_u32, 1_u32, HEADER, info.len()),
        (10, 3, HEADER + info.len(), names.len()),
    ] {
        raw.extend(name.to_le_bytes());
        raw.extend(kind.to_le_bytes());
        raw.extend([0; 16]);
        raw.extend((at as u64).to_le_bytes());
        raw.extend((size as u64).to_le_bytes());
        raw.extend([0; 8]);
        raw.extend(1_u64.to_le_bytes());
        raw.extend([0; 8]);
    }
    raw
}

/// A kernel whose modules are files with these lines.
fn kernel(modules: &[(&str, &[&str])], builtin: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let release = root.path().join("lib/modules/6.0-test");
    for (path, lines) in modules {
        let path = release.join("kernel").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, module(lines)).unwrap();
    }
    fs::write(release.join("modules.builtin"), builtin).unwrap();
    root
}

fn order(root: &Path, wanted: &[&str]) -> Result<Vec<String>, DebianError> {
    let modules = Tree::open(root, "test")?.closure(wanted)?;
    Ok(modules.into_iter().map(|module| module.name).collect())
}

#[test]
fn what_is_needed_comes_first_and_once() {
    let root = kernel(
        &[
            ("drivers/virtio/virtio.ko", &[]),
            ("drivers/virtio/virtio_ring.ko", &["depends=virtio"]),
            ("drivers/virtio-mmio.ko", &["depends=virtio_ring,virtio"]),
            (
                "drivers/block/virtio_blk.ko",
                &["depends=virtio,virtio_ring"],
            ),
            ("unwanted.ko", &["depends=virtio"]),
        ],
        "",
    );
    let order = order(root.path(), &["virtio_blk", "virtio-mmio", "virtio_blk"]).unwrap();
    assert_eq!(
        order,
        ["virtio", "virtio_ring", "virtio_blk", "virtio_mmio"]
    );
}

#[test]
fn what_is_built_in_is_left_out() {
    let root = kernel(
        &[("a.ko", &["depends=jbd2"])],
        "kernel/fs/jbd2/jbd2.ko\nkernel/x/virtio-rng.ko\n",
    );
    assert_eq!(order(root.path(), &["a", "virtio_rng"]).unwrap(), ["a"]);
}

#[test]
fn a_wish_is_granted_where_it_can_be() {
    let root = kernel(
        &[("a.ko", &["softdep=pre: b crypto-nothing"]), ("b.ko", &[])],
        "",
    );
    assert_eq!(order(root.path(), &["a"]).unwrap(), ["b", "a"]);
}

#[test]
fn a_circle_ends() {
    let root = kernel(&[("a.ko", &["depends=b"]), ("b.ko", &["depends=a"])], "");
    assert_eq!(order(root.path(), &["a"]).unwrap(), ["b", "a"]);
}

#[test]
fn a_missing_module_is_named_with_who_needs_it() {
    let root = kernel(&[("a.ko", &["depends=gone"])], "");
    let text = order(root.path(), &["a"]).unwrap_err().to_string();
    assert_eq!(
        text,
        "the kernel 6.0-test has no module `gone`, which `a` needs"
    );
    let text = order(root.path(), &["none"]).unwrap_err().to_string();
    assert_eq!(text, "the kernel 6.0-test has no module `none`");
}

#[test]
fn a_damaged_module_is_named() {
    let root = kernel(&[("a.ko", &[])], "");
    fs::write(root.path().join("lib/modules/6.0-test/kernel/a.ko"), "text").unwrap();
    let text = order(root.path(), &["a"]).unwrap_err().to_string();
    assert!(text.contains("a.ko is not a kernel module"), "{text}");
}

#[test]
fn what_is_no_kernel_says_so() {
    let root = tempfile::tempdir().unwrap();
    let text = order(root.path(), &[]).unwrap_err().to_string();
    assert!(
        text.starts_with("test is not a Linux kernel for guests: it has no folder lib/modules")
    );
}

#[test]
fn compressed_modules_are_read() {
    let root = kernel(&[("a.ko", &["depends="])], "");
    let path = root.path().join("lib/modules/6.0-test/kernel/a.ko");
    let plain = fs::read(&path).unwrap();
    let tried = std::process::Command::new("xz").arg(&path).status();
    if !tried.is_ok_and(|status| status.success()) {
        println!("NOT TESTED with xz: it is not installed");
        return;
    }
    let modules = Tree::open(root.path(), "test")
        .unwrap()
        .closure(&["a"])
        .unwrap();
    assert_eq!(modules[0].bytes, plain);
}
