//! The balloon: memory that the monitor asks for (ESX Server, OSDI'02, section 3.2).
//!
//! The guest gives what it misses least: pages that are free, then clean blocks of the buffer cache
//! but for the few that it needs to go on, and nothing else: what the monitor wants beyond that it
//! must take by other means. Its own need comes first: who finds no memory left takes it out of the balloon.
//!
//! The driver looks at its target now and then, as ESX's did: a thin guest has no interrupts that
//! would tell it, and a look costs an exit.

use crate::hal::{SplashHal, transport};
use crate::memory;
use crate::pages::LANE;
use crate::port;
use crate::shared;
use crate::sync::Spin;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use mirrorball_abi::layout::PAGE_SIZE;
use virtio_drivers::device::common::Feature;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport;
use virtio_drivers::transport::mmio::MmioTransport;

/// virtio device id of a balloon (virtio 1.2, clause 5.5.1).
const BALLOON_DEVICE: u32 = 5;
/// inflateq and deflateq (clause 5.5.2).
const INFLATE: u16 = 0;
const DEFLATE: u16 = 1;
const QUEUE_SIZE: usize = 2;
/// `num_pages` and `actual` in the device's configuration (clause 5.5.4).
const TARGET: usize = 0;
const ACTUAL: usize = 4;

/// Lanes that the device is told of at a time.
const BATCH: usize = 32;
/// Requests of one look, so that threads have their turn.
const MOST_BATCHES: usize = 32;
/// Milliseconds between two looks.
const PERIOD: u64 = 100;

/// The balloon in use.
struct Balloon<T: Transport = MmioTransport<'static>> {
    transport: T,
    inflate: VirtQueue<SplashHal, QUEUE_SIZE>,
    deflate: VirtQueue<SplashHal, QUEUE_SIZE>,
    /// Addresses of what it holds.
    lanes: Vec<usize>,
    /// Page numbers for the device.
    numbers: Box<[[u8; 4]; BATCH * LANE]>,
    /// When it looks again, in ticks.
    next: u64,
}

impl<T: Transport> fmt::Debug for Balloon<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balloon")
            .field("lanes", &self.lanes.len())
            .finish_non_exhaustive()
    }
}

// SAFETY: the queues' memory is reachable from any vCPU, and the lock around them admits one at a time.
unsafe impl<T: Transport + Send> Send for Balloon<T> {}

enum State {
    Unknown,
    Missing,
    Open(Box<Balloon>),
}

static BALLOON: Spin<State> = Spin::new(State::Unknown);

/// Follows the monitor's target, if it is time to look. Answers when that is next, in ticks.
pub fn poll() -> u64 {
    let Some(mut state) = BALLOON.try_lock() else {
        return u64::MAX;
    };
    if matches!(*state, State::Unknown) {
        let found = transport(BALLOON_DEVICE, 0).and_then(Balloon::new);
        *state = found.map_or(State::Missing, |balloon| State::Open(Box::new(balloon)));
    }
    let State::Open(balloon) = &mut *state else {
        return u64::MAX;
    };
    if port::ticks() >= balloon.next {
        balloon.follow();
        balloon.next = port::ticks().saturating_add(PERIOD * shared::ticks_per_ms());
    }
    balloon.next
}

/// Takes memory out of the balloon for who has found none; false when there is none in it.
pub fn release(pages: usize) -> bool {
    // Who is at the balloon itself may be asking.
    let Some(mut state) = BALLOON.try_lock() else {
        return false;
    };
    take_out(&mut state, pages)
}

/// As [`release`], for who is not at the balloon itself: waits until another vCPU is done with it.
pub fn release_in_turn(pages: usize) -> bool {
    take_out(&mut BALLOON.lock(), pages)
}

fn take_out(state: &mut State, pages: usize) -> bool {
    let State::Open(balloon) = state else {
        return false;
    };
    let before = balloon.lanes.len();
    balloon.shrink_to(before.saturating_sub(pages.div_ceil(LANE).max(1)));
    balloon.lanes.len() < before
}

impl<T: Transport> Balloon<T> {
    /// Sets the device behind `transport` up; `None` when that fails.
    fn new(mut transport: T) -> Option<Self> {
        transport.begin_init(Feature::VERSION_1);
        let inflate = VirtQueue::new(&mut transport, INFLATE, false, false).ok()?;
        let deflate = VirtQueue::new(&mut transport, DEFLATE, false, false).ok()?;
        transport.finish_init();
        Some(Self {
            transport,
            inflate,
            deflate,
            lanes: Vec::new(),
            numbers: Box::new([[0; 4]; BATCH * LANE]),
            next: 0,
        })
    }

    /// Looks at the target and goes as far towards it as memory allows.
    fn follow(&mut self) {
        let Ok(target) = self.transport.read_config_space::<u32>(TARGET) else {
            return;
        };
        let wanted = target as usize / LANE;
        let before = self.lanes.len();
        if wanted < before {
            self.shrink_to(wanted);
        }
        for _ in 0..MOST_BATCHES {
            if !self.grow(wanted) {
                break;
            }
        }
        if self.lanes.len() != before {
            self.tell_actual();
        }
    }

    /// Gives up a batch of memory; false when there is nothing more to give.
    fn grow(&mut self, wanted: usize) -> bool {
        let from = self.lanes.len();
        let most = wanted.saturating_sub(from).min(BATCH);
        // The list may need memory itself; that is had before any is taken for the monitor.
        if most == 0 || self.lanes.try_reserve(most).is_err() {
            return false;
        }
        while self.lanes.len() - from < most {
            let Some(lane) = memory::take_for_balloon() else {
                break;
            };
            self.lanes.push(lane);
        }
        let taken = self.lanes.len() - from;
        if taken > 0 && !self.name(from, INFLATE) {
            self.give_back(from);
            return false;
        }
        taken == most
    }

    /// Takes memory back until `lanes` lanes are left.
    fn shrink_to(&mut self, lanes: usize) {
        while self.lanes.len() > lanes {
            let from = lanes.max(self.lanes.len().saturating_sub(BATCH));
            // Told before they are used again (clause 5.5.6.2).
            if !self.name(from, DEFLATE) {
                return;
            }
            self.give_back(from);
        }
        self.tell_actual();
    }

    fn give_back(&mut self, from: usize) {
        for lane in self.lanes.drain(from..) {
            memory::give(lane, LANE);
        }
    }

    /// Names the lanes from `from` on, at most a batch, to the device and waits until it has them.
    fn name(&mut self, from: usize, queue: u16) -> bool {
        let pages = self.lanes[from..].iter().take(BATCH).flat_map(|lane| {
            let first = lane / PAGE_SIZE;
            first..first + LANE
        });
        let mut count = 0;
        for (number, page) in self.numbers.iter_mut().zip(pages) {
            *number = u32::try_from(page).unwrap_or(u32::MAX).to_le_bytes();
            count += 1;
        }
        let numbers = self.numbers[..count].as_flattened();
        let named = match queue {
            INFLATE => &mut self.inflate,
            _ => &mut self.deflate,
        };
        named
            .add_notify_wait_pop(&[numbers], &mut [], &mut self.transport)
            .is_ok()
    }

    fn tell_actual(&mut self) {
        let pages = u32::try_from(self.lanes.len() * LANE).unwrap_or(u32::MAX);
        // It is for statistics: what really left, the monitor knows.
        let _ = self.transport.write_config_space(ACTUAL, pages);
    }
}
