//! stub while the real one is written
#![allow(missing_docs, missing_debug_implementations, unused, clippy::all, clippy::pedantic)]
mod types;
pub use types::*;
use std::{io, sync::Arc};
use vm_memory::GuestMemoryMmap;

#[derive(Debug, thiserror::Error)]
pub enum PmapError { #[error("{0}")] Os(#[from] io::Error), #[error("frame store full")] Full }
#[derive(Clone, Debug)]
pub struct PmapConfig { pub frame_capacity: u64, pub vma_budget: Option<usize>, pub tracking: bool }
impl Default for PmapConfig { fn default() -> Self { Self { frame_capacity: 64 << 30, vma_budget: None, tracking: true } } }
pub struct Pmap;
impl Pmap {
    pub fn new(config: &PmapConfig) -> Result<Arc<Pmap>, PmapError> { todo!() }
    pub fn create_space(&self, vm: VmId, group: GroupId, bytes: u64) -> Result<Arc<AddressSpace>, PmapError> { todo!() }
    pub fn remove_space(&self, vm: VmId) { todo!() }
    pub fn spaces(&self) -> Vec<Arc<AddressSpace>> { todo!() }
    pub fn space(&self, vm: VmId) -> Option<Arc<AddressSpace>> { todo!() }
    pub fn frames(&self) -> &FrameStore { todo!() }
    pub fn tracking(&self) -> bool { todo!() }
    pub fn totals(&self) -> Totals { todo!() }
    pub fn settle_all(&self) { todo!() }
    pub fn kernel_account(&self) -> io::Result<KernelAccount> { todo!() }
}
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals { pub guest_physical: u64, pub touched: u64, pub private: u64, pub mapped: u64, pub shared: u64, pub reclaimed: u64, pub zero: u64, pub frames: u64, pub ballooned: u64, pub swapped: u64, pub by_mechanism: [u64; 3], pub vmas: u64, pub broken: u64, pub overhead_bytes: u64 }
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelAccount { pub private_bytes: u64, pub frame_bytes: u64 }
impl KernelAccount { pub fn total(&self) -> u64 { todo!() } }
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounts { pub frames: u64, pub pinned: u64 }
pub struct FrameStore;
impl FrameStore {
    pub fn allocate(&self, pages: u32, group: GroupId) -> Result<NewFrames, PmapError> { todo!() }
    pub fn pin(&self, weak: WeakFrame) -> Option<PinnedFrames> { todo!() }
    pub fn pin_run(&self, run: &[WeakFrame]) -> Option<PinnedFrames> { todo!() }
    pub fn counts(&self) -> FrameCounts { todo!() }
}
#[derive(Debug)]
pub struct NewFrames;
impl NewFrames {
    pub fn start(&self) -> Mpn { todo!() }
    pub fn pages(&self) -> u32 { todo!() }
    pub fn bytes_mut(&mut self) -> &mut [u8] { todo!() }
    pub fn publish(self) -> PinnedFrames { todo!() }
}
#[derive(Debug)]
pub struct PinnedFrames;
impl PinnedFrames {
    pub fn start(&self) -> Mpn { todo!() }
    pub fn pages(&self) -> u32 { todo!() }
    pub fn bytes(&self) -> &[u8] { todo!() }
    pub fn page(&self, i: u32) -> &Page { todo!() }
    pub fn weak(&self, i: u32) -> WeakFrame { todo!() }
    pub fn slice(&self, from: u32, pages: u32) -> PinnedFrames { todo!() }
    pub fn group(&self) -> GroupId { todo!() }
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeakFrame { mpn: Mpn, generation: u32 }
impl WeakFrame { pub fn mpn(&self) -> Mpn { self.mpn } }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageState { Untouched, Private, Mapped(Mpn, Mechanism), Zero }
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceTotals { pub guest_physical: u64, pub touched: u64, pub private: u64, pub mapped: u64, pub zero: u64, pub ballooned: u64, pub swapped: u64, pub vmas: u64, pub broken: u64 }
#[derive(Debug)]
pub struct ShareCandidate<'a> { pub at: Ppn, pub frames: &'a PinnedFrames }
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShareOutcome { pub shared: u64, pub different: u64, pub refused: u64, pub fences: u64, pub shared_runs: Vec<PpnRun> }
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZeroOutcome { pub released: u64, pub different: u64, pub refused: u64 }
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapRefused { #[error("no mappings left in the VMA budget")] NoBudget, #[error("the frames belong to another sharing group")] OtherGroup, #[error("outside guest memory")] OutOfRange }
#[derive(Debug)]
pub struct AddressSpace;
impl AddressSpace {
    pub fn vm(&self) -> VmId { todo!() }
    pub fn group(&self) -> GroupId { todo!() }
    pub fn pages(&self) -> u32 { todo!() }
    pub fn bytes(&self) -> u64 { todo!() }
    pub fn host_address(&self) -> u64 { todo!() }
    pub fn access(&self) -> Access<'_> { todo!() }
    pub fn take_written(&self) -> Vec<PpnRun> { todo!() }
    pub fn settle(&self) { todo!() }
    pub fn with_page<R>(&self, ppn: Ppn, f: impl FnOnce(&Page) -> R) -> R { todo!() }
    pub fn state(&self, ppn: Ppn) -> PageState { todo!() }
    pub fn share(&self, candidates: &[ShareCandidate<'_>], mechanism: Mechanism) -> ShareOutcome { todo!() }
    pub fn release_zero(&self, runs: &[PpnRun]) -> ZeroOutcome { todo!() }
    pub fn wait_for_fence(&self) { todo!() }
    pub fn totals(&self) -> SpaceTotals { todo!() }
    pub fn holds(&self) -> hdrhistogram::Histogram<u64> { todo!() }
}
#[derive(Debug)]
pub struct Access<'a>(&'a ());
impl Access<'_> {
    pub fn memory(&self) -> &GuestMemoryMmap { todo!() }
    pub fn map_frames(&self, at: Ppn, frames: &PinnedFrames, mechanism: Mechanism) -> Result<(), MapRefused> { todo!() }
}
