//! What tests of Linux guests on the emulated host have in common.

/// Why Linux guests can't be tested here; said and counted.
pub fn obstacle() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let reason =
        if !std::env::split_paths(&path).any(|folder| folder.join("qemu-system-x86_64").exists()) {
            "they need qemu-system-x86"
        } else if cfg!(debug_assertions) {
            "they need a release build: cargo test --release --test 'linux_*'"
        } else {
            return false;
        };
    eprintln!("NOT RUN (1): Linux guests on the emulated host: {reason}");
    true
}
