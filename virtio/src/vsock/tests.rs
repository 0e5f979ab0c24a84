//! The host's end against guests that keep to the rules, and against any packets at all.

use super::endpoint::{BUFFER, Endpoint, Received};
use super::header::{
    Address, Credit, HOST, Header, NO_MORE_RECEIVED, NO_MORE_SENT, Operation, STREAM,
};
use proptest::prelude::*;

const GUEST: u64 = 7;
const PORT: u32 = 1024;

fn packet(port: u32, operation: Operation, len: u32) -> Header {
    Header {
        from: Address {
            machine: GUEST,
            port,
        },
        to: Address {
            machine: HOST,
            port: PORT,
        },
        len,
        kind: STREAM,
        operation,
        flags: 0,
        credit: Credit {
            buffer: 100,
            consumed: 0,
        },
    }
}

/// A guest at port 5 that has connected and was told so.
fn connected() -> Endpoint {
    let mut end = Endpoint::new(7, PORT);
    let request = packet(5, Operation::REQUEST, 0);
    assert_eq!(end.receive(&request, 0), Received::Connected);
    let (answer, payload) = end.next(0).unwrap();
    assert_eq!(answer.operation, Operation::RESPONSE);
    assert_eq!((answer.from, answer.to), (request.to, request.from));
    assert_eq!((answer.credit.buffer, answer.credit.consumed), (BUFFER, 0));
    assert!(payload.is_empty() && !end.has_packet());
    end
}

/// What the guest is told next.
fn said(end: &mut Endpoint) -> Option<Operation> {
    end.next(4096).map(|(header, _)| header.operation)
}

#[test]
fn a_guest_connects_talks_hears_and_leaves() {
    let mut end = connected();
    let data = packet(5, Operation::DATA, 30);
    assert_eq!(end.receive(&data, 30), Received::Data);
    end.consume();
    end.send(b"go\n");
    let (header, payload) = end.next(4096).unwrap();
    assert_eq!((header.operation, header.len), (Operation::DATA, 3));
    assert_eq!((header.to, header.from), (data.from, data.to));
    assert_eq!(header.credit.consumed, 30);
    assert_eq!(payload, b"go\n");

    // One direction at a time; the reset says that both have ended.
    for flags in [NO_MORE_SENT, NO_MORE_RECEIVED] {
        assert_eq!(said(&mut end), None);
        let header = Header {
            flags,
            ..packet(5, Operation::SHUTDOWN, 0)
        };
        assert_eq!(end.receive(&header, 0), Received::Nothing);
    }
    assert_eq!(said(&mut end), Some(Operation::RESET));
    assert!(!end.connected());
    let again = packet(5, Operation::REQUEST, 0);
    assert_eq!(end.receive(&again, 0), Received::Connected);
}

#[test]
fn what_is_malformed_or_unexpected_is_answered_with_a_reset_and_ends_its_stream() {
    let right = packet(5, Operation::DATA, 10);
    let operation = |number: u16| Header {
        operation: Operation(number),
        ..packet(5, Operation::DATA, 0)
    };
    let of_kind = |kind: u16| Header { kind, ..right };
    let bad = [
        packet(5, Operation::REQUEST, 0),
        packet(5, Operation::RESPONSE, 0),
        packet(5, Operation::CREDIT_UPDATE, 1),
        packet(5, Operation::DATA, 11),
        packet(5, Operation::DATA, u32::MAX),
        operation(0),
        operation(8),
        operation(u16::MAX),
        of_kind(2),
        of_kind(0),
    ];
    for header in bad {
        let mut end = connected();
        assert_eq!(end.receive(&header, 10), Received::Nothing, "{header:?}");
        assert!(!end.connected(), "{header:?}");
        let (answer, _) = end.next(0).unwrap();
        assert_eq!(answer.operation, Operation::RESET, "{header:?}");
        assert_eq!((answer.to, answer.kind), (header.from, header.kind));
        assert_eq!(end.receive(&right, 10), Received::Nothing, "no stream");
        assert_eq!(said(&mut end), Some(Operation::RESET));
    }
}

#[test]
fn strangers_get_a_reset_and_harm_nobody() {
    let mut end = connected();
    let elsewhere = |machine: u64, port: u32| Header {
        to: Address { machine, port },
        ..packet(5, Operation::REQUEST, 0)
    };
    let strangers = [
        packet(6, Operation::REQUEST, 0),
        packet(6, Operation::DATA, 0),
        elsewhere(HOST, PORT + 1),
        elsewhere(GUEST + 1, PORT),
        elsewhere(u64::MAX, PORT),
    ];
    for header in strangers {
        assert_eq!(end.receive(&header, 0), Received::Nothing);
        assert_eq!(said(&mut end), Some(Operation::RESET), "{header:?}");
        assert!(end.connected());
    }
    // Neither a reset nor a packet with another machine's address is answered.
    let forged = Header {
        from: Address {
            machine: GUEST + 1,
            port: 5,
        },
        ..packet(5, Operation::RESET, 0)
    };
    for header in [forged, packet(6, Operation::RESET, 0)] {
        assert_eq!(end.receive(&header, 0), Received::Nothing);
        assert!(end.connected() && !end.has_packet());
    }
    end.receive(&packet(5, Operation::RESET, 0), 0);
    assert!(!end.connected() && !end.has_packet());
}

#[test]
fn a_guest_may_send_what_there_is_room_for_and_hears_of_more() {
    let mut end = connected();
    let half = packet(5, Operation::DATA, BUFFER / 2);
    for _ in 0..2 {
        assert_eq!(end.receive(&half, BUFFER.into()), Received::Data);
    }
    assert!(!end.has_packet(), "nothing was consumed");
    end.consume();
    let (header, _) = end.next(0).unwrap();
    assert_eq!(header.operation, Operation::CREDIT_UPDATE);
    assert_eq!(header.credit.consumed, BUFFER);
    assert_eq!(said(&mut end), None, "said once");
    end.receive(&packet(5, Operation::CREDIT_REQUEST, 0), 0);
    assert_eq!(said(&mut end), Some(Operation::CREDIT_UPDATE));
    for _ in 0..2 {
        assert_eq!(end.receive(&half, BUFFER.into()), Received::Data);
    }
    let one_more = packet(5, Operation::DATA, 1);
    assert_eq!(end.receive(&one_more, 1), Received::Nothing);
    assert_eq!(said(&mut end), Some(Operation::RESET));
}

#[test]
fn a_guest_is_sent_what_it_has_room_for_whatever_it_says_of_that() {
    let mut end = connected();
    end.send(&[1; 250]);
    assert_eq!(end.next(30).unwrap().1.len(), 30, "the buffer's room");
    assert_eq!(end.next(4096).unwrap().1.len(), 70, "the guest's credit");
    assert!(!end.has_packet());
    let update = |consumed| Header {
        credit: Credit {
            buffer: 100,
            consumed,
        },
        ..packet(5, Operation::CREDIT_UPDATE, 0)
    };
    end.receive(&update(60), 0);
    assert_eq!(end.next(4096).unwrap().1.len(), 60);
    // More than it was sent, and less than it has said before.
    for lie in [161, 30, u32::MAX] {
        end.receive(&update(lie), 0);
        assert_eq!(said(&mut end), None);
    }
    end.receive(&update(160), 0);
    assert_eq!(end.next(4096).unwrap().1.len(), 90);
    assert_eq!(end.waiting(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Packet(Header, u64),
    Next(usize),
    Send(usize),
    Consume,
    Reset,
}

/// Headers of which many make sense.
fn header() -> impl Strategy<Value = Header> {
    let usual = |right: u64| prop_oneof![30 => Just(right), 1 => any::<u64>()];
    let port = |right: u32| prop_oneof![30 => Just(right), 1 => Just(right + 1)];
    let small = || prop_oneof![9 => 0..9000_u32, 1 => any::<u32>()];
    let ends = (usual(GUEST), port(5), usual(HOST), port(PORT));
    let kind = prop_oneof![30 => Just(STREAM), 1 => any::<u16>()];
    // Streams that last, for the most part: data, and credit without any.
    let operation = prop_oneof![
        9 => (Just(5), 0..5000_u32),
        3 => (6..8_u16, Just(0)),
        2 => (Just(1), Just(0)),
        1 => (0..9_u16, any::<u32>()),
    ];
    (ends, kind, operation, any::<u32>(), (small(), small())).prop_map(
        |((guest, from, host, to), kind, (operation, len), flags, (buffer, consumed))| Header {
            from: Address {
                machine: guest,
                port: from,
            },
            to: Address {
                machine: host,
                port: to,
            },
            len,
            kind,
            operation: Operation(operation),
            flags,
            credit: Credit { buffer, consumed },
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (header(), 4900..6000_u64).prop_map(|(header, payload)| Step::Packet(header, payload)),
        6 => (0..5000_usize).prop_map(Step::Next),
        3 => (0..3000_usize).prop_map(Step::Send),
        1 => Just(Step::Consume),
        1 => Just(Step::Reset),
    ]
}

/// What must hold of a stream, kept by itself.
#[derive(Default)]
struct Model {
    /// The guest's port and credit, bytes sent to it.
    stream: Option<(u32, Credit, u32)>,
    unread: u32,
    /// Packets that may be answered and were not.
    unanswered: usize,
}

impl Model {
    fn packet(&mut self, end: &mut Endpoint, header: &Header, payload: u64) {
        if end.full() {
            return;
        }
        let received = end.receive(header, payload);
        self.unanswered += usize::from(header.operation != Operation::RESET);
        match (received, &mut self.stream) {
            (Received::Connected, none) => {
                assert!(none.is_none(), "one stream at a time");
                *none = Some((header.from.port, header.credit, 0));
                self.unread = 0;
                return;
            }
            (Received::Data, Some((port, ..))) => {
                assert_eq!((header.from.port, header.from.machine), (*port, GUEST));
                assert!(u64::from(header.len) <= payload);
                self.unread += header.len;
                assert!(self.unread <= BUFFER, "more than there is room for");
            }
            (Received::Data, None) => panic!("data of no stream"),
            (Received::Nothing, _) => {}
        }
        if !end.connected() {
            self.stream = None;
        }
        let for_us = header.to.machine == HOST && header.to.port == PORT;
        if let Some((port, credit, _)) = &mut self.stream
            && for_us
            && (header.from.port, header.from.machine) == (*port, GUEST)
        {
            *credit = header.credit;
        }
    }

    fn next(&mut self, end: &mut Endpoint, room: usize) {
        let Some((header, payload)) = end.next(room) else {
            assert!(room == 0 || !end.has_packet());
            return;
        };
        assert_eq!(payload.len(), header.len as usize);
        assert!(payload.len() <= room);
        assert_eq!(header.to.machine, GUEST);
        match header.operation {
            Operation::DATA => {
                let (port, credit, sent) = self.stream.as_mut().unwrap();
                assert_eq!(header.to.port, *port);
                *sent = sent.wrapping_add(header.len);
                assert!(sent.wrapping_sub(credit.consumed) <= credit.buffer);
            }
            Operation::CREDIT_UPDATE => assert!(self.stream.is_some()),
            _ => {
                self.unanswered = self.unanswered.checked_sub(1).unwrap();
            }
        }
    }
}

proptest! {
    #[test]
    fn any_packets_leave_the_host_within_its_bounds(steps in proptest::collection::vec(step(), 1..200)) {
        let mut end = Endpoint::new(7, PORT);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Packet(header, payload) => model.packet(&mut end, &header, payload),
                Step::Next(room) => model.next(&mut end, room),
                Step::Send(bytes) => end.send(&vec![0; bytes]),
                Step::Consume => {
                    end.consume();
                    model.unread = 0;
                }
                Step::Reset => {
                    end.reset();
                    model = Model::default();
                    prop_assert!(!end.has_packet() && end.waiting() == 0);
                }
            }
            prop_assert_eq!(end.connected(), model.stream.is_some());
        }
        // The host comes to an end with whatever it has to say.
        let mut packets = 0;
        while end.next(4096).is_some() {
            packets += 1;
            prop_assert!(packets < 1000);
        }
    }
}
