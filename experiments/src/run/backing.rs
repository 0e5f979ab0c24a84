//! Whether guests' memory is of the kind that can be shared at all.
//!
//! Where it is not, nothing is saved and nobody says why: KSM passes over memory that belongs to a
//! file, and so does the pmap's account. The kernel's list of mappings tells.

use mirrorball_monitor::Vm;

/// The frame store's mappings: what is shared already.
const FRAMES: &str = "/memfd:mirrorball-frames";

/// Warnings about guests whose memory can't be shared.
pub fn warnings<'a>(vms: impl IntoIterator<Item = &'a Vm>) -> Vec<String> {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else {
        return Vec::new();
    };
    let regions = vms.into_iter().map(|vm| {
        let space = vm.space();
        (vm.name(), space.host_address(), space.bytes())
    });
    regions.filter_map(|region| judge(&maps, region)).collect()
}

/// What is wrong with a guest's memory, by the kernel's list of mappings (proc(5), `maps`).
fn judge(maps: &str, (name, start, bytes): (&str, u64, u64)) -> Option<String> {
    let end = start.saturating_add(bytes);
    let lines = maps.lines().filter_map(mapping);
    let mut own = lines.filter(|mapping| mapping.start < end && mapping.end > start);
    own.find_map(|mapping| {
        let why = if mapping.shared {
            "is mapped shared"
        } else if !mapping.file.is_empty() && !mapping.file.starts_with(FRAMES) {
            "belongs to a file"
        } else {
            return None;
        };
        let file = match mapping.file {
            "" => String::new(),
            file => format!(" ({file})"),
        };
        Some(format!(
            "{name}: its memory {why}{file}: equal pages in it can't be found, so what is saved is no \
             measure of the guests"
        ))
    })
}

struct Mapping<'a> {
    start: u64,
    end: u64,
    shared: bool,
    file: &'a str,
}

fn mapping(line: &str) -> Option<Mapping<'_>> {
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let shared = words.next()?.ends_with('s');
    let inode = words.nth(2)?;
    let file = words.next().unwrap_or_default().trim();
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        shared,
        // What has no inode is a name in brackets, or none.
        file: if inode == "0" { "" } else { file },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
7f0000000000-7f0000400000 rw-p 00000000 00:00 0 
7f0000400000-7f0000401000 r--p 00003000 00:01 1031                       /memfd:mirrorball-frames (deleted)
7f0000401000-7f0000800000 rw-p 00000000 00:00 0                          [anon:guest]
7f0001000000-7f0001400000 rw-p 00000000 08:01 77                         /home/a guest.img
7f0002000000-7f0002400000 rw-s 00000000 00:05 9                          /dev/zero (deleted)
";

    fn told(start: u64) -> Option<String> {
        judge(MAPS, ("g", start, 4 << 20))
    }

    #[test]
    fn private_anonymous_memory_and_shared_frames_are_well() {
        assert_eq!(judge(MAPS, ("g", 0x7f00_0000_0000, 8 << 20)), None);
    }

    #[test]
    fn a_guest_in_a_file_is_told_instead_of_saving_nothing() {
        let warning = told(0x7f00_0100_0000).unwrap();
        assert!(
            warning.contains("belongs to a file (/home/a guest.img)"),
            "{warning}"
        );
        let warning = told(0x7f00_0200_0000).unwrap();
        assert!(warning.contains("is mapped shared"), "{warning}");
    }
}
