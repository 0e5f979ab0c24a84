//! Whether a user's own file is a kernel that can boot here, and which.
//!
//! Format: `Documentation/arch/x86/boot.rst` of the kernel, "The Real-Mode Kernel Header".

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::DebianError;

/// The header's magic number and its place.
const MAGIC: (usize, &[u8]) = (0x202, b"HdrS");
/// `kernel_version`: where the version's text is, counted from 0x200.
const VERSION: usize = 0x20e;
/// `xloadflags`, and its bit for a 64-bit kernel.
const FLAGS: usize = 0x236;
const WIDE: u8 = 1;
/// As much of the file as holds header and version.
const START: u64 = 64 << 10;
const ELF: &[u8] = b"\x7fELF";
/// `e_machine` of ELF: its place, and x86-64.
const MACHINE: (usize, u8) = (18, 62);

/// The release of the kernel in a file, as `uname -r` says it; `unknown` for an ELF file.
///
/// # Errors
/// It can't be read, or is no kernel for x86-64.
pub(crate) fn release(path: &Path) -> Result<String, DebianError> {
    let file = File::open(path).map_err(|error| DebianError::io(path, error))?;
    read(file).map_err(|error| match error {
        Problem::Io(error) => DebianError::io(path, error),
        Problem::NotThis(reason) => DebianError::NotAKernel {
            what: path.display().to_string(),
            reason: reason.to_owned(),
        },
    })
}

#[derive(Debug)]
enum Problem {
    Io(io::Error),
    NotThis(&'static str),
}

fn read(file: impl Read) -> Result<String, Problem> {
    let mut start = Vec::new();
    file.take(START)
        .read_to_end(&mut start)
        .map_err(Problem::Io)?;
    if start.starts_with(ELF) {
        let (at, machine) = MACHINE;
        if start.get(at) != Some(&machine) {
            return Err(Problem::NotThis(
                "it was built for another machine than x86-64",
            ));
        }
        return Ok("unknown".to_owned());
    }
    let (at, magic) = MAGIC;
    if start.get(at..at + magic.len()) != Some(magic) {
        return Err(Problem::NotThis("it is neither a bzImage nor an ELF file"));
    }
    if start.get(FLAGS).is_none_or(|flags| flags & WIDE == 0) {
        return Err(Problem::NotThis("it is not a 64-bit kernel"));
    }
    let at = match start.get(VERSION..VERSION + 2) {
        Some(&[low, high]) => 0x200 + usize::from(u16::from_le_bytes([low, high])),
        _ => start.len(),
    };
    let text = start.get(at..).unwrap_or_default();
    let text = text.split(|&byte| byte == b' ' || byte == 0).next();
    let text = String::from_utf8_lossy(text.unwrap_or_default()).into_owned();
    let plausible = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    Ok(if plausible {
        text
    } else {
        "unknown".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bzimage(change: impl FnOnce(&mut Vec<u8>)) -> Result<String, Problem> {
        let mut raw = vec![0; 0x1000];
        raw[0x202..0x206].copy_from_slice(b"HdrS");
        raw[VERSION..VERSION + 2].copy_from_slice(&0x300_u16.to_le_bytes());
        raw[FLAGS] = 0x3f;
        raw[0x500..0x510].copy_from_slice(b"6.12.1-x (me@x) ");
        change(&mut raw);
        read(raw.as_slice())
    }

    fn reason(change: impl FnOnce(&mut Vec<u8>)) -> &'static str {
        match bzimage(change) {
            Err(Problem::NotThis(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_release_is_read() {
        assert_eq!(bzimage(|_| ()).unwrap(), "6.12.1-x");
    }

    #[test]
    fn a_release_that_is_not_there_is_unknown() {
        assert_eq!(bzimage(|raw| raw[VERSION + 1] = 0xff).unwrap(), "unknown");
        assert_eq!(bzimage(|raw| raw[0x500] = 0).unwrap(), "unknown");
    }

    #[test]
    fn what_is_no_kernel_for_this_machine_says_why() {
        assert!(reason(|raw| raw[0x202] = b'h').contains("neither"));
        assert!(reason(|raw| raw.truncate(0x203)).contains("neither"));
        assert!(reason(|raw| raw[FLAGS] = 0).contains("64-bit"));
        let arm = |raw: &mut Vec<u8>| {
            raw[..19].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7")
        };
        assert!(reason(arm).contains("another machine"));
    }
}
