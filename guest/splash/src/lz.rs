//! A small LZ77 compressor: the "compiler" of the `pmake` workload.
//!
//! It stands for real work on real bytes: it reads all its input, keeps tables that compete for
//! memory, and its result can be checked by decompressing. The format is a run of items: a byte
//! below 128 announces that many plus one literals; 128 to 255 a match of length (byte - 128 + 4)
//! at the two-byte distance that follows.

use alloc::vec;
use alloc::vec::Vec;

const MIN_MATCH: usize = 4;
const MAX_MATCH: usize = MIN_MATCH + 127;
const WINDOW: usize = 0xffff;
const TABLE_BITS: u32 = 12;

/// Reusable state: where each short string was seen last.
#[derive(Debug)]
pub struct Compressor {
    table: Vec<u32>,
}

impl Compressor {
    /// A compressor with its table.
    pub fn new() -> Self {
        Self {
            table: vec![0; 1 << TABLE_BITS],
        }
    }

    /// Compresses `input`, replacing what `output` held.
    pub fn compress(&mut self, input: &[u8], output: &mut Vec<u8>) {
        output.clear();
        self.table.fill(0);
        let mut at = 0;
        let mut literals = 0;
        while at + MIN_MATCH <= input.len() {
            let place = &mut self.table[slot(&input[at..])];
            // Places are stored plus one, so that 0 means none.
            let candidate = (*place as usize).checked_sub(1);
            *place = u32::try_from(at + 1).unwrap_or(0);
            let length = candidate
                .filter(|earlier| at - earlier <= WINDOW)
                .map_or(0, |earlier| common(&input[earlier..], &input[at..]));
            if let (Some(earlier), MIN_MATCH..) = (candidate, length) {
                put_literals(&input[literals..at], output);
                put_match(length, at - earlier, output);
                at += length;
                literals = at;
            } else {
                at += 1;
            }
        }
        put_literals(&input[literals..], output);
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "lengths are at most 127 over the base, distances at most 65,535"
)]
fn put_match(length: usize, distance: usize, output: &mut Vec<u8>) {
    output.push(128 + (length - MIN_MATCH) as u8);
    output.extend_from_slice(&(distance as u16).to_le_bytes());
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "chunks have 1 to 128 bytes"
)]
fn put_literals(bytes: &[u8], output: &mut Vec<u8>) {
    for chunk in bytes.chunks(128) {
        output.push((chunk.len() - 1) as u8);
        output.extend_from_slice(chunk);
    }
}

fn slot(bytes: &[u8]) -> usize {
    let key = bytes
        .first_chunk::<4>()
        .map_or(0, |first| u32::from_le_bytes(*first));
    (key.wrapping_mul(0x9e37_79b1) >> (32 - TABLE_BITS)) as usize
}

fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter()
        .zip(other)
        .take(MAX_MATCH)
        .take_while(|(a, b)| a == b)
        .count()
}

/// Decompresses what [`Compressor::compress`] made, replacing what `output` held.
///
/// `None` when the input is not of that format.
pub fn decompress(input: &[u8], output: &mut Vec<u8>) -> Option<()> {
    output.clear();
    let mut rest = input;
    while let Some((item, after)) = rest.split_first() {
        if *item < 128 {
            let (literals, after) = after.split_at_checked(usize::from(*item) + 1)?;
            output.extend_from_slice(literals);
            rest = after;
        } else {
            let (distance, after) = after.split_first_chunk::<2>()?;
            let distance = usize::from(u16::from_le_bytes(*distance));
            let length = usize::from(*item - 128) + MIN_MATCH;
            let start = output
                .len()
                .checked_sub(distance)
                .filter(|_| distance > 0)?;
            for index in start..start + length {
                output.push(output[index]);
            }
            rest = after;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Random;

    fn round_trip(input: &[u8]) -> usize {
        let (mut packed, mut unpacked) = (Vec::new(), vec![1, 2, 3]);
        Compressor::new().compress(input, &mut packed);
        assert_eq!(decompress(&packed, &mut unpacked), Some(()));
        assert_eq!(unpacked, input);
        packed.len()
    }

    #[test]
    fn what_goes_in_comes_out() {
        round_trip(b"");
        round_trip(b"abc");
        assert!(round_trip(&[b'x'; 10_000]) < 300);
        let source = include_bytes!("lz.rs");
        assert!(
            round_trip(source) < source.len() * 2 / 3,
            "source code has repetitions"
        );
        let mut random = Random::new(5);
        let noise: Vec<u8> = (0..70_000)
            .map(|_| random.next().to_le_bytes()[0])
            .collect();
        round_trip(&noise);
        round_trip(&[noise.clone(), noise].concat());
    }

    #[test]
    fn broken_input_is_refused() {
        let mut output = Vec::new();
        assert_eq!(decompress(&[5, 1], &mut output), None);
        assert_eq!(decompress(&[128, 1], &mut output), None);
        assert_eq!(
            decompress(&[128, 1, 0], &mut output),
            None,
            "distance beyond the start"
        );
        assert_eq!(
            decompress(&[0, 7, 128, 0, 0], &mut output),
            None,
            "distance zero"
        );
    }
}
