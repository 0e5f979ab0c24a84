//! The table of the `scan` workload: a database-like file, the same for the same seed.
//!
//! Rows of 64 bytes, eight little-endian `u64` each: row number, group (0..1000), then six values
//! from the generator.

use std::io::{self, Write};

/// Bytes of a row.
pub const ROW: u64 = 64;
/// Groups that rows belong to.
pub const GROUPS: u64 = 1000;

/// Writes a table of `bytes` (a multiple of [`ROW`]).
///
/// # Errors
/// The writer's.
pub fn write(out: &mut impl Write, seed: u64, bytes: u64) -> io::Result<()> {
    let mut state = seed;
    for row in 0..bytes / ROW {
        let mut values = [0; 8];
        values[0] = row;
        values[1] = next(&mut state) % GROUPS;
        values[2..].fill_with(|| next(&mut state));
        for value in values {
            out.write_all(&value.to_le_bytes())?;
        }
    }
    Ok(())
}

/// SplitMix64 (Steele, Lea, Flood 2014): a full-period step and a mixing function.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_table() {
        let table = |seed| {
            let mut out = Vec::new();
            write(&mut out, seed, 640).unwrap();
            out
        };
        assert_eq!(table(7), table(7));
        assert_ne!(table(7), table(8));
        assert_eq!(table(7).len(), 640);
        assert_eq!(table(7)[64..72], 1_u64.to_le_bytes());
        // The reference sequence of the generator for seed 0.
        let mut state = 0;
        assert_eq!(next(&mut state), 0xe220_a839_7b1d_cdaf);
    }
}
