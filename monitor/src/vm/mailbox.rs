//! The guest interface's control and status pages, read and written by the monitor.
//!
//! The guest may change both at any moment and put anything there: each number is taken as it is
//! found and never used as an index or length unchecked.

use std::mem::offset_of;
use std::sync::atomic::Ordering;

use mirrorball_abi::{Control, Phase, Status, Workload, layout};
use mirrorball_pmap::{Access, AddressSpace};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};
use zerocopy::{FromZeros, IntoBytes};

const fn control_field(offset: usize) -> GuestAddress {
    GuestAddress(layout::CONTROL + offset as u64)
}

pub(super) const fn status_field(offset: usize) -> GuestAddress {
    GuestAddress(layout::STATUS + offset as u64)
}

/// Fills the control page of a new guest.
pub(crate) fn write_control(
    access: &Access<'_>,
    control: &Control,
) -> Result<(), GuestMemoryError> {
    access
        .memory()
        .write_slice(control.as_bytes(), GuestAddress(layout::CONTROL))
}

/// Gives the guest a command: everything about it is there before its number is.
pub(crate) fn write_command(
    access: &Access<'_>,
    number: u64,
    workload: &Workload,
) -> Result<(), GuestMemoryError> {
    let memory = access.memory();
    memory.store(
        0_u64,
        control_field(offset_of!(Control, stop)),
        Ordering::Release,
    )?;
    memory.write_slice(
        workload.as_bytes(),
        control_field(offset_of!(Control, workload)),
    )?;
    memory.store(
        number,
        control_field(offset_of!(Control, command)),
        Ordering::Release,
    )
}

/// Asks the guest to end its workload early.
pub(crate) fn write_stop(access: &Access<'_>) -> Result<(), GuestMemoryError> {
    access.memory().store(
        1_u64,
        control_field(offset_of!(Control, stop)),
        Ordering::Release,
    )
}

/// The guest's status as it is now; fields may be of slightly different moments.
pub(crate) fn read_status(space: &AddressSpace) -> Status {
    let mut status = Status::new_zeroed();
    let access = space.access();
    if access
        .memory()
        .read_slice(status.as_mut_bytes(), GuestAddress(layout::STATUS))
        .is_err()
    {
        tracing::error!("guest memory ends before the status pages");
    }
    status
}

/// Whether the guest has reached `phase` of `command` or is past it.
///
/// The guest writes a new command's phase before its number, so the number is read first: an older
/// command's `Done` is never taken for the new one's.
pub(crate) fn has_reached(space: &AddressSpace, phase: Phase, command: u64) -> bool {
    let access = space.access();
    let memory = access.memory();
    let number = memory
        .load::<u64>(status_field(offset_of!(Status, command)), Ordering::Acquire)
        .unwrap_or(0);
    let raw = memory
        .load::<u32>(status_field(offset_of!(Status, phase)), Ordering::Acquire)
        .unwrap_or(0);
    number > command || number == command && Phase::from_raw(raw).is_some_and(|now| now >= phase)
}

/// What the guest says of its panic: message and source position.
pub(crate) fn panic_message(space: &AddressSpace) -> (String, String) {
    let status = read_status(space);
    let length = usize::try_from(status.message_length).unwrap_or(usize::MAX);
    let bytes = status.message.get(..length).unwrap_or(&status.message);
    split_message(&String::from_utf8_lossy(bytes))
}

/// The first line is the place, as `file:line:column`; the message follows. A guest that panics
/// otherwise has no place.
fn split_message(text: &str) -> (String, String) {
    let is_place = |line: &str| {
        let mut parts = line.rsplitn(3, ':');
        let mut number = || parts.next().is_some_and(|part| part.parse::<u32>().is_ok());
        number() && number()
    };
    match text.split_once('\n') {
        Some((place, message)) if is_place(place) => (message.trim().into(), place.into()),
        _ => (text.trim().into(), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::split_message;

    #[test]
    fn panic_messages_are_split_where_they_name_a_place() {
        let split = |text: &str| split_message(text);
        assert_eq!(
            split("src/heap.rs:12:3\nno memory\n"),
            ("no memory".into(), "src/heap.rs:12:3".into())
        );
        assert_eq!(split("no disk"), ("no disk".into(), String::new()));
        assert_eq!(split("two\nlines"), ("two\nlines".into(), String::new()));
    }
}
