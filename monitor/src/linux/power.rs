//! Power-off and reset: the ports that the ACPI tables name, and those that every PC has.

use crate::vm::StopCause;

/// ACPI's sleep control register.
pub(super) const SLEEP_CONTROL: u16 = 0x600;
/// ACPI's sleep status register; always 0, nobody ever woke up.
pub(super) const SLEEP_STATUS: u16 = 0x601;
/// ACPI's reset register.
pub(super) const RESET: u16 = 0x602;
/// What is to be written there.
pub(super) const RESET_VALUE: u8 = 1;
/// The sleep type of the state S5, as `\_S5` names it.
pub(super) const SOFT_OFF: u8 = 5;

/// "SLP_EN" of the sleep control register (ACPI 6.5, section 4.8.3.7).
const SLEEP_ENABLE: u8 = 1 << 5;
/// Command and status of the keyboard controller.
const KEYBOARD: u16 = 0x64;
/// Its command to pulse the processor's reset line.
const KEYBOARD_RESET: u8 = 0xfe;
/// The chip set's reset control register, and its bit that resets the processor.
const CHIP_SET: u16 = 0xcf9;
const CHIP_SET_RESET: u8 = 1 << 2;

/// What a write to a port does to the VM's life.
pub(super) fn write(port: u16, value: u8) -> Option<StopCause> {
    match (port, value) {
        (SLEEP_CONTROL, value) if value & SLEEP_ENABLE != 0 => {
            let state = value >> 2 & 0b111;
            (state == SOFT_OFF).then_some(StopCause::PoweredOff)
        }
        (RESET, RESET_VALUE) | (KEYBOARD, KEYBOARD_RESET) => Some(StopCause::Reset),
        (CHIP_SET, value) if value & CHIP_SET_RESET != 0 => Some(StopCause::Reset),
        _ => None,
    }
}

/// What a port of these reads as. The keyboard controller is never busy: Linux waits for that
/// before it asks for a reset.
pub(super) fn read(port: u16) -> Option<u8> {
    match port {
        SLEEP_CONTROL | SLEEP_STATUS | RESET | KEYBOARD | CHIP_SET => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_is_off_and_resets_are_resets() {
        assert_eq!(
            write(SLEEP_CONTROL, 5 << 2 | 1 << 5),
            Some(StopCause::PoweredOff)
        );
        assert_eq!(write(RESET, 1), Some(StopCause::Reset));
        assert_eq!(write(KEYBOARD, 0xfe), Some(StopCause::Reset));
        assert_eq!(write(CHIP_SET, 0x0e), Some(StopCause::Reset));
    }

    #[test]
    fn what_is_neither_changes_nothing() {
        assert_eq!(write(SLEEP_CONTROL, 5 << 2), None, "not enabled");
        assert_eq!(write(SLEEP_CONTROL, 3 << 2 | 1 << 5), None, "suspend");
        assert_eq!(write(SLEEP_STATUS, 0x80), None);
        assert_eq!(write(RESET, 0), None);
        assert_eq!(write(KEYBOARD, 0xaa), None);
        assert_eq!(write(CHIP_SET, 0x02), None);
        assert_eq!(write(0x80, 0xfe), None);
        assert_eq!((read(KEYBOARD), read(0x80)), (Some(0), None));
    }
}
