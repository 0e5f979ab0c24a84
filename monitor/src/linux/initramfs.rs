//! What the monitor can tell of an initramfs: whether it is one, whether it is whole, and how much
//! memory it takes unpacked.
//!
//! The kernel says nothing of an archive that ends early but to its own log, long after a user has
//! stopped looking, so plain cpio archives are walked to their end here. Compressed ones are only
//! known by their first bytes.

use std::path::Path;

use super::LinuxError;

/// A header of the format "newc", with or without checksums: the magic and 13 numbers of 8
/// hexadecimal digits.
const HEADER: usize = 6 + 13 * 8;
/// How much larger than the archive the content of a compressed one is taken to be.
const EXPANSION: u64 = 4;

/// First bytes of what Linux can unpack: gzip, zstd, legacy LZ4, xz, bzip2, lzma, lzo.
const COMPRESSED: [&[u8]; 7] = [
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"\x02\x21\x4c\x18",
    b"\xfd7zXZ",
    b"BZh",
    b"\x5d\x00\x00",
    b"\x89LZO",
];

/// Sizes of an initramfs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Bytes of the archives.
    pub(super) packed: u64,
    /// Bytes that it takes unpacked, estimated where it is compressed.
    pub(super) unpacked: u64,
}

/// Whether the bytes begin like something that Linux can decompress.
pub(super) fn is_compressed(bytes: &[u8]) -> bool {
    COMPRESSED.iter().any(|magic| bytes.starts_with(magic))
}

/// Whether the bytes begin like a cpio archive.
pub(super) fn is_cpio(bytes: &[u8]) -> bool {
    bytes.starts_with(b"070701") || bytes.starts_with(b"070702")
}

/// Reads an initramfs from a file.
pub(super) fn read(path: &Path) -> Result<(Sizes, Vec<u8>), LinuxError> {
    let bytes = std::fs::read(path).map_err(|source| LinuxError::Unreadable {
        what: "the initramfs",
        path: path.into(),
        source,
    })?;
    Ok((check(path, &bytes)?, bytes))
}

/// Checks archives that follow each other, zeros between them.
pub(super) fn check(path: &Path, bytes: &[u8]) -> Result<Sizes, LinuxError> {
    let mut sizes = Sizes {
        packed: bytes.len() as u64,
        unpacked: 0,
    };
    let bad = |reason: &str| LinuxError::NotAnInitramfs {
        path: path.into(),
        reason: reason.into(),
    };
    let mut at = 0;
    while let Some(zeros) = bytes[at..].iter().position(|byte| *byte != 0) {
        at += zeros;
        let rest = &bytes[at..];
        if is_compressed(rest) {
            sizes.unpacked += rest.len() as u64 * EXPANSION;
            return Ok(sizes);
        }
        if !is_cpio(rest) {
            return Err(bad("it holds neither a cpio nor a compressed archive"));
        }
        let archive = archive_bytes(rest).map_err(|reason| match reason {
            Flaw::Cut => LinuxError::Truncated {
                what: "the initramfs",
                path: path.into(),
                reason: format!("its {} bytes end inside of an archive", bytes.len()),
            },
            Flaw::Garbled => bad("a header in its archive is garbled"),
        })?;
        sizes.unpacked += archive as u64;
        at += archive;
    }
    if sizes.unpacked == 0 {
        return Err(bad("it is empty"));
    }
    Ok(sizes)
}

#[derive(Clone, Copy, Debug)]
enum Flaw {
    Cut,
    Garbled,
}

/// Length of the cpio archive at the beginning of `bytes`.
fn archive_bytes(bytes: &[u8]) -> Result<usize, Flaw> {
    let mut at = 0;
    loop {
        let header = bytes
            .get(at..)
            .and_then(|rest| rest.get(..HEADER))
            .ok_or(Flaw::Cut)?;
        if !is_cpio(header) {
            return Err(Flaw::Garbled);
        }
        let content = field(header, 6).ok_or(Flaw::Garbled)?;
        let name = field(header, 11).ok_or(Flaw::Garbled)?;
        let name_end = at.saturating_add(HEADER).saturating_add(name);
        let name = bytes.get(at + HEADER..name_end).ok_or(Flaw::Cut)?;
        if name == b"TRAILER!!!\0" {
            return Ok(name_end);
        }
        let content_end = name_end.next_multiple_of(4).saturating_add(content);
        if content_end > bytes.len() {
            return Err(Flaw::Cut);
        }
        at = content_end.next_multiple_of(4);
    }
}

/// Number `index` of a header.
fn field(header: &[u8], index: usize) -> Option<usize> {
    let digits = header.get(6 + index * 8..14 + index * 8)?;
    usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One entry of an archive.
    fn entry(name: &str, content: &[u8]) -> Vec<u8> {
        let mut numbers = [0; 13];
        (numbers[6], numbers[11]) = (content.len(), name.len() + 1);
        let mut entry = b"070701".to_vec();
        for number in numbers {
            entry.extend(format!("{number:08x}").bytes());
        }
        entry.extend(name.bytes().chain([0]));
        entry.resize(entry.len().next_multiple_of(4), 0);
        entry.extend(content);
        entry.resize(entry.len().next_multiple_of(4), 0);
        entry
    }

    /// An archive with one file.
    pub(crate) fn archive(content: &[u8]) -> Vec<u8> {
        [entry("init", content), entry("TRAILER!!!", &[])].concat()
    }

    fn check_bytes(bytes: &[u8]) -> Result<Sizes, LinuxError> {
        check(Path::new("initrd.img"), bytes)
    }

    #[test]
    fn archives_follow_each_other() {
        let one = archive(b"#!/bin/sh\n");
        let sizes = check_bytes(&one).unwrap();
        assert_eq!(sizes.packed, one.len() as u64);
        let two = [one.as_slice(), &[0; 600], &one].concat();
        let both = check_bytes(&two).unwrap();
        assert_eq!(both.packed, two.len() as u64);
        assert_eq!(both.unpacked, 2 * sizes.unpacked);
        let mixed = [one.as_slice(), &[0; 4], b"\x1f\x8b", &[7; 98]].concat();
        assert_eq!(check_bytes(&mixed).unwrap().unpacked, sizes.unpacked + 400);
    }

    #[test]
    fn every_cut_is_noticed() {
        let whole = archive(b"some content of a file");
        let end = whole.len() - 1;
        let whole_end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 2;
        for length in 6..whole_end.min(end) {
            let text = check_bytes(&whole[..length]).unwrap_err().to_string();
            assert!(text.contains("truncated"), "{length}: {text}");
        }
    }

    #[test]
    fn what_is_no_initramfs_is_said() {
        let refusal = |bytes: &[u8]| check_bytes(bytes).unwrap_err().to_string();
        assert!(refusal(b"").contains("empty"));
        assert!(refusal(&[0; 64]).contains("empty"));
        assert!(refusal(b"hello").contains("initrd.img is not an initramfs"));
        let mut garbled = archive(b"");
        garbled[6 + 6 * 8] = b'x';
        assert!(refusal(&garbled).contains("garbled"));
        let mut wild = archive(b"x");
        wild[6 + 6 * 8..14 + 6 * 8].copy_from_slice(b"ffffffff");
        assert!(refusal(&wild).contains("truncated"));
    }
}
