//! The virtual network: switches between guests that hand pages on instead of copying them.
//!
//! Disco's virtual subnet (SOSP'97, section 4.3) moves whole pages from sender to receiver by
//! mapping. Here a [`Packet`] is a list of pieces: bytes that were copied out of the sender, and
//! [`PinnedFrames`](mirrorball_pmap::PinnedFrames) of the pmap, whole pages that nobody copies. A
//! [`Network`] carries packets between [`Port`]s and never looks into a page; what becomes of the
//! pieces in the receiver's memory is its device's affair.
//!
//! The crate knows no virtio, no KVM, no clock but the capture's and that of limits: senders do the
//! work, receivers are woken by a closure of theirs. The one thread there can be delivers what ports
//! with limits send late.
#![forbid(unsafe_code)]

mod addresses;
mod capture;
mod inbox;
mod limits;
mod mac;
mod network;
mod offload;
mod packet;
mod port;
mod segments;

pub use capture::Capture;
pub use inbox::Bounds;
pub use limits::Limits;
pub use mac::{Mac, MacError};
pub use network::{AttachError, MOST_PORTS, Network, NetworkConfig};
pub use packet::{
    Checksum, ETHERNET_HEADER, MOST_BYTES, Offload, Packet, PacketError, Piece, Segments, Transport,
};
pub use port::{Port, PortConfig, PortCounts};
