//! The sender's own pages: whether they shall name the frames that were made of them.
//!
//! It saves a page for each, until the sender writes it: then it has cost a change of the mappings and
//! a copy. Whether a guest writes again what it has sent is seen when it sends the same pages again.

use super::judge::Judge;
use mirrorball_pmap::{AddressSpace, Lent, Mechanism, ShareCandidate};
use parking_lot::Mutex;
use std::time::Instant;

/// Pages sent again after which what was before counts half.
const MEMORY: u32 = 512;

/// What is known of a sender's own pages.
#[derive(Debug)]
pub(super) struct Own {
    /// Sent in this round: private pages that equal frames.
    equal: Vec<Lent>,
    judge: Judge,
    stayed: u32,
    rewritten: u32,
    least_run: u32,
}

impl Default for Own {
    fn default() -> Self {
        Self {
            equal: Vec::new(),
            judge: Judge::default(),
            stayed: 0,
            rewritten: 0,
            least_run: 1,
        }
    }
}

impl Own {
    /// A packet was made. `equal` are private pages that were lent as frames; of pages sent before so
    /// many have stayed what they were, and so many have not.
    pub(super) fn sent(&mut self, equal: Vec<Lent>, stayed: (u32, u32)) {
        self.stayed += stayed.0;
        self.rewritten += stayed.1;
        let known = self.stayed + self.rewritten;
        if stayed != (0, 0) {
            let part = f64::from(self.stayed) / f64::from(known.max(1));
            self.least_run = self.judge.least_run(part);
        }
        if known > MEMORY {
            (self.stayed, self.rewritten) = (self.stayed / 2, self.rewritten / 2);
        }
        let worth = |lent: &Lent| lent.frames.pages() >= self.least_run;
        self.equal.extend(equal.into_iter().filter(worth));
    }
}

/// Makes the pages sent in this round name their frames, those that still equal them; answers how
/// many do now.
pub(super) fn share(own: &Mutex<Own>, space: &AddressSpace) -> u64 {
    // Packets of the next round need not wait for this.
    let equal = std::mem::take(&mut own.lock().equal);
    let mut shared = 0;
    for lent in &equal {
        let candidate = ShareCandidate {
            at: lent.at,
            frames: &lent.frames,
        };
        let begin = Instant::now();
        shared += space.share(&[candidate], Mechanism::Network).shared;
        (own.lock().judge).mapped(begin.elapsed(), lent.frames.pages());
    }
    shared
}
