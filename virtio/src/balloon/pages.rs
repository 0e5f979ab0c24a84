//! What a guest names, as runs of pages: in order, none twice, none outside its memory.

use crate::queue::Buffers;
use mirrorball_pmap::{PAGE_BYTES, Ppn, PpnRun};

/// Runs of the pages with these numbers, and how many numbers named no page of `pages`.
pub(super) fn from_numbers(numbers: &mut Vec<u32>, pages: u32) -> (Vec<PpnRun>, u64) {
    numbers.sort_unstable();
    let inside = numbers.partition_point(|&number| number < pages);
    let outside = (numbers.len() - inside) as u64;
    numbers.truncate(inside);
    numbers.dedup();
    let runs = numbers
        .chunk_by(|one, next| one + 1 == *next)
        .filter_map(|run| Some(PpnRun::new(Ppn(run[0]), u32::try_from(run.len()).ok()?)))
        .collect();
    (runs, outside)
}

/// Runs of the pages that lie whole in the buffers, which lie in guest memory.
pub(super) fn from_buffers(buffers: &Buffers) -> Vec<PpnRun> {
    let mut runs: Vec<PpnRun> = buffers
        .iter()
        .filter_map(|buffer| {
            let first = buffer.address.div_ceil(PAGE_BYTES);
            let end = (buffer.address + u64::from(buffer.len)) / PAGE_BYTES;
            let pages = end.checked_sub(first).filter(|&pages| pages > 0)?;
            Some(PpnRun::new(
                Ppn(u32::try_from(first).ok()?),
                u32::try_from(pages).ok()?,
            ))
        })
        .collect();
    runs.sort_unstable();
    runs.dedup_by(|run, before| {
        let joined = run.start <= before.end();
        if joined {
            before.pages = before.end().max(run.end()).0 - before.start.0;
        }
        joined
    });
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Buffer;

    const fn run(start: u32, pages: u32) -> PpnRun {
        PpnRun::new(Ppn(start), pages)
    }

    #[test]
    fn numbers_become_runs_whatever_their_order() {
        let mut numbers = vec![7, 3, 4, 4, 9, 5, u32::MAX, 10, 3];
        let (runs, outside) = from_numbers(&mut numbers, 10);
        assert_eq!(runs, [run(3, 3), run(7, 1), run(9, 1)]);
        assert_eq!(outside, 2);
        assert_eq!(from_numbers(&mut vec![], 10), (vec![], 0));
        assert_eq!(from_numbers(&mut vec![0], 0), (vec![], 1));
    }

    #[test]
    fn only_whole_pages_of_a_buffer_count() {
        let buffers = |list: &[(u64, u32)]| {
            let buffer = |&(address, len)| Buffer { address, len };
            from_buffers(&list.iter().map(buffer).collect())
        };
        assert_eq!(buffers(&[(0x1000, 0x3000)]), [run(1, 3)]);
        assert_eq!(buffers(&[(0x1001, 0x3000)]), [run(2, 2)]);
        assert_eq!(buffers(&[(0x1fff, 0x1001)]), [run(2, 1)]);
        assert_eq!(buffers(&[(0x1001, 0x1ffe), (0x5000, 1)]), []);
        let overlapping = [(0x8000, 0x2000), (0x4000, 0x2000), (0x5000, 0x3000)];
        assert_eq!(buffers(&overlapping), [run(4, 6)]);
        assert_eq!(
            buffers(&[(0, u32::MAX), (0x3000, 0x1000)]),
            [run(0, 0xf_ffff)]
        );
    }
}
