//! cpio archives as the Linux kernel unpacks them: `newc`, without owners, times or inode numbers
//! of the machine that wrote them, so that equal contents are equal bytes.
//!
//! Format: `Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel. Archives may
//! be written one after the other; the kernel unpacks each over those before it.

use std::collections::BTreeMap;
use std::fmt::Write;

/// `S_IFDIR`, `S_IFREG` and `S_IFLNK` of `stat(2)`.
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
/// Name of the entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";
/// What archives are padded to. The kernel asks for 4 bytes between archives.
const ALIGNMENT: usize = 4;

/// An archive that is being put together.
///
/// Entries are written in the order of their paths, however they were added; a path added twice
/// has its last content. Folders above an entry need not be added.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    mode: u32,
    bytes: Vec<u8>,
}

impl Archive {
    /// An archive with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a folder (mode 0755) and those above it. A leading `/` of the path means nothing.
    pub fn dir(&mut self, path: &str) -> &mut Self {
        self.add(path, FOLDER | 0o755, Vec::new())
    }

    /// Adds a file with these permissions (as `0o755`) and content, below 4 GiB.
    pub fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> &mut Self {
        self.add(path, FILE | (mode & 0o7777), bytes.to_owned())
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> &mut Self {
        self.add(path, LINK | 0o777, target.as_bytes().to_owned())
    }

    fn add(&mut self, path: &str, mode: u32, bytes: Vec<u8>) -> &mut Self {
        let path = path.trim_matches('/');
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        for folder in above {
            let entry = self.entries.entry(folder.to_owned());
            entry.or_insert_with(|| Entry {
                mode: FOLDER | 0o755,
                bytes: Vec::new(),
            });
        }
        self.entries.insert(path.to_owned(), Entry { mode, bytes });
        self
    }

    /// The archive's bytes, a multiple of 4.
    #[must_use]
    pub fn finish(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, (path, entry)) in (1_u32..).zip(&self.entries) {
            write(&mut out, number, path, entry);
        }
        let end = Entry {
            mode: 0,
            bytes: Vec::new(),
        };
        write(&mut out, 0, TRAILER, &end);
        out
    }
}

fn write(out: &mut Vec<u8>, inode: u32, path: &str, entry: &Entry) {
    let links = if entry.mode & FOLDER == FOLDER { 2 } else { 1 };
    let mut header = String::from("070701");
    let name_size = path.len() + 1;
    // Inode, mode, owner, group, links, time; size; four device numbers; size of the name; no sum.
    for field in [inode, entry.mode, 0, 0, links, 0] {
        push(&mut header, u64::from(field));
    }
    push(&mut header, entry.bytes.len() as u64);
    for field in [0, 0, 0, 0, name_size as u64, 0] {
        push(&mut header, field);
    }
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(&entry.bytes);
    pad(out);
}

fn push(header: &mut String, field: u64) {
    // Writing to a String can't fail.
    let _ = write!(header, "{field:08x}");
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Path, mode, content of each entry, read by the rules of the format.
    fn read(mut raw: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut found = Vec::new();
        let whole = raw.len();
        loop {
            assert_eq!(&raw[..6], b"070701");
            let field = |n: usize| {
                let text = std::str::from_utf8(&raw[6 + 8 * n..14 + 8 * n]).unwrap();
                usize::from_str_radix(text, 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6), field(11));
            let name = std::str::from_utf8(&raw[110..110 + name_size - 1]).unwrap();
            assert_eq!(raw[110 + name_size - 1], 0, "the name ends with a zero");
            let at = whole - raw.len();
            let data = (at + 110 + name_size).next_multiple_of(4) - at;
            let next = (at + data + size).next_multiple_of(4) - at;
            if name == "TRAILER!!!" {
                assert_eq!(raw.len(), next, "nothing follows the trailer");
                return found;
            }
            found.push((
                name.to_owned(),
                u32::try_from(mode).unwrap(),
                raw[data..data + size].to_vec(),
            ));
            raw = &raw[next..];
        }
    }

    #[test]
    fn an_empty_archive_is_its_trailer() {
        let expected = concat!(
            "070701",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000001",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "0000000b",
            "00000000",
            "TRAILER!!!\0\0\0\0"
        );
        assert_eq!(
            String::from_utf8(Archive::new().finish()).unwrap(),
            expected
        );
    }

    #[test]
    fn a_file_has_the_bytes_of_the_format() {
        let mut archive = Archive::new();
        archive.file("/a", 0o644, b"hello");
        let expected = concat!(
            "070701",
            "00000001",
            "000081a4",
            "00000000",
            "00000000",
            "00000001",
            "00000000",
            "00000005",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000002",
            "00000000",
            "a\0hello\0\0\0"
        );
        let raw = archive.finish();
        assert_eq!(&raw[..expected.len()], expected.as_bytes());
    }

    #[test]
    fn folders_come_before_what_is_in_them_and_order_of_adding_is_nothing() {
        let mut one = Archive::new();
        one.file("bin/x", 0o755, b"x")
            .link("bin-y", "bin/x")
            .dir("/proc/");
        let mut two = Archive::new();
        two.dir("proc")
            .link("bin-y", "bin/x")
            .file("bin/x", 0o755, b"x");
        assert_eq!(one.finish(), two.finish());
        let read = read(&one.finish());
        let expected = [
            ("bin".to_owned(), 0o040_755, Vec::new()),
            ("bin-y".to_owned(), 0o120_777, b"bin/x".to_vec()),
            ("bin/x".to_owned(), 0o100_755, b"x".to_vec()),
            ("proc".to_owned(), 0o040_755, Vec::new()),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn the_last_content_of_a_path_counts() {
        let mut archive = Archive::new();
        archive.file("a", 0o644, b"one").file("a", 0o600, b"two");
        assert_eq!(
            read(&archive.finish()),
            [("a".to_owned(), 0o100_600, b"two".to_vec())]
        );
    }

    #[test]
    fn the_reference_implementation_reads_it() {
        let mut archive = Archive::new();
        archive.file("bin/x", 0o755, b"content").link("bin/y", "x");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive");
        std::fs::write(&path, archive.finish()).unwrap();
        let tried = std::process::Command::new("cpio")
            .args(["--quiet", "-idF"])
            .arg(&path)
            .current_dir(folder.path())
            .status();
        let Ok(status) = tried else {
            println!("NOT TESTED against cpio: it is not installed");
            return;
        };
        assert!(status.success());
        assert_eq!(
            std::fs::read(folder.path().join("bin/y")).unwrap(),
            b"content"
        );
    }
}
