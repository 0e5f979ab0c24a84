//! Guest-physical addresses that both sides know.

/// Page size in bytes.
pub const PAGE_SIZE: usize = 4096;
/// The [`crate::Control`] page. Page 0 is not mapped in the guest's page tables (null pointers fault).
pub const CONTROL: u64 = 0x1000;
/// Bytes at [`CONTROL`].
pub const CONTROL_SIZE: usize = 0x1000;
/// A task state segment of zeros in the second half of the control page: its I/O permission bitmap
/// allows every port of the guest interface. A KVM without hardware runs CPL 3 code with IOPL 0 and
/// then asks this bitmap (Intel SDM volume 1, section 19.5.2), so TR must point here.
pub const TASK_STATE: u64 = CONTROL + 0x800;
/// Bytes at [`TASK_STATE`].
pub const TASK_STATE_SIZE: usize = 0x800;
/// The [`crate::Status`] pages.
pub const STATUS: u64 = 0x2000;
/// Bytes at [`STATUS`].
pub const STATUS_SIZE: usize = 0x2000;
/// From here to [`IMAGE_BASE`] is room for the page tables that the monitor's loader builds, the root
/// table last; part of the boot image.
pub const PAGE_TABLES: u64 = 0x10_0000;
/// Where the linker script puts the guest's image.
pub const IMAGE_BASE: u64 = 0x20_0000;
/// Bytes of one vCPU's boot stack; the page below it is not mapped.
pub const STACK_SIZE: u64 = 0x1_0000;
/// Most memory a thin guest can have (it lies below the device window).
pub const MAX_MEMORY: u64 = 0xc000_0000;
/// Least memory a thin guest can have.
pub const MIN_MEMORY: u64 = 16 << 20;
/// First virtio-mmio register window.
pub const MMIO_BASE: u64 = 0xd000_0000;
/// Distance between two register windows, bytes.
pub const MMIO_STRIDE: u64 = 0x1000;
