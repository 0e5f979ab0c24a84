//! Packets on file, as `pcapng` (draft-ietf-opsawg-pcapng), which Wireshark and `tshark` read.
//!
//! Three kinds of blocks are all there is to write: a section header, an interface, packets. The
//! sender is on the packet's path while it is written; a capture that fails stops, and says so.

use crate::Packet;
use parking_lot::Mutex;
use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const ETHERNET: u16 = 1;
/// `if_name`, `if_tsresol` and the end of a block's options.
const NAME: u16 = 2;
const RESOLUTION: u16 = 9;
/// Time stamps count nanoseconds: ten to the minus ninth of a second.
const NANOSECONDS: u8 = 9;

/// A file that is being written.
pub struct Capture {
    to: Mutex<Box<dyn Write + Send>>,
    most: usize,
    failed: AtomicBool,
}

impl Capture {
    /// Begins a capture of what is called `name`, with the first `most` bytes of each packet.
    ///
    /// # Errors
    /// What the writer says.
    pub fn begin(mut to: Box<dyn Write + Send>, name: &str, most: usize) -> io::Result<Self> {
        let mut section = Vec::new();
        section.extend(BYTE_ORDER.to_le_bytes());
        section.extend([1, 0, 0, 0]);
        section.extend(u64::MAX.to_le_bytes());
        write_block(&mut to, SECTION, &section)?;
        let mut interface = Vec::new();
        interface.extend(ETHERNET.to_le_bytes());
        interface.extend([0; 2]);
        interface.extend(u32::try_from(most).unwrap_or(0).to_le_bytes());
        push_option(&mut interface, NAME, name.as_bytes());
        push_option(&mut interface, RESOLUTION, &[NANOSECONDS]);
        interface.extend([0; 4]);
        write_block(&mut to, INTERFACE, &interface)?;
        Ok(Self {
            to: Mutex::new(to),
            most,
            failed: AtomicBool::new(false),
        })
    }

    /// Whether the writer refused something: the capture is not complete.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Hands what is buffered to the system.
    ///
    /// # Errors
    /// What the writer says.
    pub fn flush(&self) -> io::Result<()> {
        self.to.lock().flush()
    }

    pub(crate) fn packet(&self, packet: &Packet) {
        if self.failed() {
            return;
        }
        let mut data = vec![0; packet.bytes().min(self.most)];
        packet.copy_to(&mut data);
        let mut block = Vec::with_capacity(data.len() + 24);
        // The time is taken under the lock: the file's packets are in its order.
        let mut to = self.to.lock();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes();
        let [low, high] = [now & 0xffff_ffff, now >> 32];
        block.extend([0; 4]);
        for half in [high, low] {
            block.extend(u32::try_from(half).unwrap_or(0).to_le_bytes());
        }
        block.extend(length(data.len()));
        block.extend(length(packet.bytes()));
        block.extend(&data);
        pad(&mut block);
        if write_block(&mut **to, ENHANCED_PACKET, &block).is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
    }
}

/// A block of 32-bit words: type and length, the body, the length again.
fn write_block(to: &mut dyn Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 12).map_err(io::Error::other)?;
    to.write_all(&kind.to_le_bytes())?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(body)?;
    to.write_all(&length.to_le_bytes())
}

fn push_option(block: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    block.extend(code.to_le_bytes());
    block.extend(u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
    block.extend(value);
    pad(block);
}

fn pad(block: &mut Vec<u8>) {
    block.resize(block.len().next_multiple_of(4), 0);
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture")
            .field("most", &self.most)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Offload, Piece};
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn the_file_is_a_chain_of_blocks_with_the_packets_bytes() {
        let file = Shared::default();
        let capture = Capture::begin(Box::new(file.clone()), "net0", 17).unwrap();
        for bytes in [15_u8, 30] {
            let data = (0..bytes).collect();
            let packet = Packet::new(vec![Piece::Bytes(data)], Offload::default()).unwrap();
            capture.packet(&packet);
        }
        let bytes = file.0.lock().clone();
        let (mut at, mut kinds, mut packets) = (0, Vec::new(), Vec::new());
        while at < bytes.len() {
            let length = word(&bytes, at + 4) as usize;
            assert_eq!(length % 4, 0);
            assert_eq!(word(&bytes, at + length - 4) as usize, length);
            kinds.push(word(&bytes, at));
            if word(&bytes, at) == ENHANCED_PACKET {
                let kept = word(&bytes, at + 20) as usize;
                let data = bytes[at + 28..at + 28 + kept].to_vec();
                packets.push((word(&bytes, at + 24), data));
            }
            at += length;
        }
        assert_eq!(
            kinds,
            [SECTION, INTERFACE, ENHANCED_PACKET, ENHANCED_PACKET]
        );
        assert_eq!(packets[0], (15, (0..15).collect()));
        assert_eq!(packets[1], (30, (0..17).collect()));
        assert!(!capture.failed());
    }
}
