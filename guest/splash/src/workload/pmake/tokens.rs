//! A tokeniser for anything that looks like source code: the "parser" of `pmake`.

use crate::hash::mix;
use alloc::vec::Vec;

/// What a source file consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    words: u64,
    numbers: u64,
    signs: u64,
    lines: u64,
    /// Depends on every token and the order they come in.
    digest: u64,
}

impl Tokens {
    /// The object of a file: name, token counts and the packed source.
    pub fn object(&self, name: u64, packed: &[u8]) -> Vec<u8> {
        let header = [
            name,
            self.words,
            self.numbers,
            self.signs,
            self.lines,
            self.digest,
        ];
        let mut object = Vec::with_capacity(size_of_val(&header) + packed.len());
        header
            .iter()
            .for_each(|word| object.extend_from_slice(&word.to_le_bytes()));
        object.extend_from_slice(packed);
        object
    }
}

/// Counts the tokens of a source file.
pub fn count(source: &[u8]) -> Tokens {
    let mut tokens = Tokens::default();
    let mut rest = source;
    while let Some(first) = rest.first().copied() {
        let of_kind = |kind: fn(u8) -> bool| rest.iter().take_while(|byte| kind(**byte)).count();
        let (length, counter) = match first {
            b'\n' => (1, &mut tokens.lines),
            byte if is_word(byte) && !byte.is_ascii_digit() => {
                (of_kind(is_word), &mut tokens.words)
            }
            byte if byte.is_ascii_digit() => (of_kind(is_word), &mut tokens.numbers),
            byte if byte.is_ascii_whitespace() => {
                rest = &rest[1..];
                continue;
            }
            _ => (1, &mut tokens.signs),
        };
        *counter += 1;
        let (token, after) = rest.split_at(length);
        let value = token.iter().fold(length as u64, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
        });
        tokens.digest = mix(tokens.digest ^ value);
        rest = after;
    }
    tokens
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_told_apart() {
        let tokens = count(b"let x_1 = 0x2f;\n\tx_1 += 7;\n");
        assert_eq!(
            (tokens.words, tokens.numbers, tokens.signs, tokens.lines),
            (3, 2, 5, 2)
        );
        assert_ne!(count(b"a b").digest, count(b"b a").digest);
        assert_ne!(count(b"ab").digest, count(b"a b").digest);
        assert_eq!(count(b""), Tokens::default());
    }

    #[test]
    fn an_object_holds_all() {
        let object = count(b"one two").object(5, b"packed");
        assert_eq!(object.len(), 6 * 8 + 6);
        assert_eq!(
            &object[..16],
            [5, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]
        );
    }
}
