//! Virtual devices: what a guest sees as its disk, its console, its balloon and its source of
//! randomness, and the disk images behind them.
//!
//! The crate has four rooms. [`queue`] reads descriptor chains out of guest memory and trusts
//! nothing it finds there; [`transport`] is the virtio-mmio register file in front of a
//! [`Device`]; [`block`], [`net`], [`console`], [`vsock`], [`balloon`] and [`rng`] are the devices;
//! [`disk`] is Disco's copy-on-write disk (section 4.2 of the paper): base images, the machine-wide
//! block cache, overlays.
//!
//! The crate may not know of KVM, vCPUs or exits: the monitor hands register accesses in, polls
//! the doorbells and gives a closure that interrupts the guest. All guest memory is touched under
//! the pmap's [`Access`](mirrorball_pmap::Access) guard, so that a device can't write a page while
//! it is being shared.
#![deny(unsafe_op_in_unsafe_fn)]

pub mod balloon;
pub mod block;
pub mod console;
mod device;
pub mod disk;
mod lines;
pub mod net;
pub mod queue;
pub mod rng;
pub mod transport;
pub mod vsock;

pub use balloon::{Balloon, BalloonCounts, GuestStatistics};
pub use block::{BlockDevice, BlockStats};
pub use console::{Console, InputFull, Tail};
pub use device::{Completed, Device, DeviceError};
pub use disk::{BaseImage, BlockCache, Disk, DiskError, OverlayMode, Rest, ext4_size};
pub use net::{MOST_PAIRS, NetConfig, NetDevice, NetStats, Transfer};
pub use rng::Rng;
pub use transport::{Notifier, Transport};
pub use vsock::Vsock;
