//! The I/O ports of a Linux guest.

use super::power;
use super::serial::SerialPort;
use crate::vm::StopCause;

/// What stands behind a Linux guest's ports.
#[derive(Debug)]
pub(crate) struct Ports {
    serial: SerialPort,
}

impl Ports {
    pub(crate) fn new(serial: SerialPort) -> Self {
        Self { serial }
    }

    /// The serial port.
    pub(crate) fn serial(&self) -> &SerialPort {
        &self.serial
    }

    /// Serves a read of any width; an empty bus reads as ones.
    pub(crate) fn read(&self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        if let Some(first) = data.first_mut() {
            let value = self.serial.read(port).or_else(|| power::read(port));
            *first = value.unwrap_or(0xff);
        }
    }

    /// Serves a write of any width; the result ends the VM.
    pub(crate) fn write(&self, port: u16, data: &[u8]) -> Option<StopCause> {
        let value = *data.first()?;
        if self.serial.write(port, value) {
            return None;
        }
        power::write(port, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_may_touch_any_port_in_any_width() {
        let ports = Ports::new(SerialPort::new(None).unwrap());
        for port in 0..=u16::MAX {
            for width in [0, 1, 2, 4] {
                let mut data = vec![0; width];
                ports.read(port, &mut data);
                ports.write(port, &data);
            }
        }
        let mut data = [0; 4];
        ports.read(0xcfc, &mut data);
        assert_eq!(data, [0xff; 4]);
        assert_eq!(ports.write(0x64, &[0xfe, 0]), Some(StopCause::Reset));
    }
}
