//! The header of every packet (virtio 1.2, clause 5.10.6), parsed and built by hand: the `virtio-vsock`
//! crate reads it out of chains of its own kind only (`docs/dependencies.md`).

/// Bytes of the header.
pub(super) const HEADER: usize = 44;

/// The well-known address of the host (clause 5.10.4).
pub(super) const HOST: u64 = 2;

/// The only type of socket that is offered: VIRTIO_VSOCK_TYPE_STREAM.
pub(super) const STREAM: u16 = 1;

/// VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE: the sender of this will receive no more.
pub(super) const NO_MORE_RECEIVED: u32 = 1;
/// VIRTIO_VSOCK_SHUTDOWN_F_SEND: the sender of this will send no more.
pub(super) const NO_MORE_SENT: u32 = 2;

/// What a packet is for (`enum virtio_vsock_op`); a guest may say any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operation(pub(super) u16);

impl Operation {
    pub(super) const REQUEST: Self = Self(1);
    pub(super) const RESPONSE: Self = Self(2);
    pub(super) const RESET: Self = Self(3);
    pub(super) const SHUTDOWN: Self = Self(4);
    pub(super) const DATA: Self = Self(5);
    pub(super) const CREDIT_UPDATE: Self = Self(6);
    pub(super) const CREDIT_REQUEST: Self = Self(7);
}

/// One end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// The machine, as a context identifier (CID).
    pub(super) machine: u64,
    /// The port there.
    pub(super) port: u32,
}

/// How much the sender of a packet can take (clause 5.10.6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Credit {
    /// Bytes of buffer for this stream (`buf_alloc`).
    pub(super) buffer: u32,
    /// Bytes received and consumed since the stream began, modulo 2^32 (`fwd_cnt`).
    pub(super) consumed: u32,
}

/// `struct virtio_vsock_hdr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) from: Address,
    pub(super) to: Address,
    /// Bytes that follow.
    pub(super) len: u32,
    /// Type of socket; see [`STREAM`].
    pub(super) kind: u16,
    pub(super) operation: Operation,
    pub(super) flags: u32,
    pub(super) credit: Credit,
}

impl Header {
    pub(super) fn parse(raw: &[u8; HEADER]) -> Self {
        let mut fields = Fields(raw);
        let machines = [fields.u64(), fields.u64()];
        let ports = [fields.u32(), fields.u32()];
        let address = |end: usize| Address {
            machine: machines[end],
            port: ports[end],
        };
        Self {
            from: address(0),
            to: address(1),
            len: fields.u32(),
            kind: fields.u16(),
            operation: Operation(fields.u16()),
            flags: fields.u32(),
            credit: Credit {
                buffer: fields.u32(),
                consumed: fields.u32(),
            },
        }
    }

    pub(super) fn build(&self) -> [u8; HEADER] {
        let mut raw = [0; HEADER];
        let parts: [&[u8]; 10] = [
            &self.from.machine.to_le_bytes(),
            &self.to.machine.to_le_bytes(),
            &self.from.port.to_le_bytes(),
            &self.to.port.to_le_bytes(),
            &self.len.to_le_bytes(),
            &self.kind.to_le_bytes(),
            &self.operation.0.to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.credit.buffer.to_le_bytes(),
            &self.credit.consumed.to_le_bytes(),
        ];
        let bytes = parts.into_iter().flatten();
        raw.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        raw
    }
}

/// Little-endian numbers, one after the other; zeros past the end.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const BYTES: usize>(&mut self) -> [u8; BYTES] {
        let Some((field, rest)) = self.0.split_first_chunk() else {
            return [0; BYTES];
        };
        self.0 = rest;
        *field
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_specification_has_them() {
        let raw: [u8; HEADER] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let header = Header::parse(&raw);
        let expected = Header {
            from: Address {
                machine: 0x0706_0504_0302_0100,
                port: 0x1312_1110,
            },
            to: Address {
                machine: 0x0f0e_0d0c_0b0a_0908,
                port: 0x1716_1514,
            },
            len: 0x1b1a_1918,
            kind: 0x1d1c,
            operation: Operation(0x1f1e),
            flags: 0x2322_2120,
            credit: Credit {
                buffer: 0x2726_2524,
                consumed: 0x2b2a_2928,
            },
        };
        assert_eq!(header, expected);
        assert_eq!(header.build(), raw);
    }
}
