//! Commodity guests from Debian packages: a kernel, an initramfs with the kernel's own modules and
//! a small `init`, and a root file system.
//!
//! Nothing here needs root: packages are downloaded with apt, unpacked with dpkg and never
//! installed. What was made is kept in a cache folder under a name that depends on everything that
//! went in, and appears there only when it is complete.
//!
//! This crate knows nothing of the monitor: what it makes boots in any virtual machine that has
//! virtio-mmio devices described in ACPI, and a virtio console to talk to (`docs/linux-guests.md`).

mod apt;
mod bzimage;
mod cache;
pub mod cpio;
mod error;
pub mod ext4;
mod image;
mod job;
mod kernel;
pub mod modules;
mod package;
mod root;
mod source;
mod tool;

pub use cache::default_cache;
pub use error::DebianError;
pub use image::{CachedImage, GuestImage, GuestImageSpec, guest_image, list};
pub use job::job;
pub use kernel::{Flavour, Kernel, fetch_kernel, kernel_in};
pub use package::{Unpacked, fetch};
pub use root::{Root, RootError, check_root};
