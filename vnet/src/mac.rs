//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

/// An Ethernet address (IEEE 802, EUI-48).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// The text is no Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an Ethernet address is six bytes as 02:4d:42:00:00:01")]
pub struct MacError;

impl Mac {
    /// Everybody.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// The address of a guest that was given none: locally administered, unique by `number`.
    #[must_use]
    pub const fn numbered(number: u32) -> Self {
        let [a, b, c, d] = number.to_be_bytes();
        Self([0x02, 0x4d, a, b, c, d])
    }

    /// Whether it names several stations (group bit), as the broadcast address does.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether a single station can have it: neither a group's nor all zeros.
    #[must_use]
    pub fn is_station(self) -> bool {
        !self.is_multicast() && self.0 != [0; 6]
    }

    /// The address as a number of 48 bits.
    pub(crate) fn number(self) -> u64 {
        let bytes = self.0.iter();
        bytes.fold(0, |number, &byte| number << 8 | u64::from(byte))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or(MacError)?;
            if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(MacError);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| MacError)?;
        }
        match parts.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(MacError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        let mac: Mac = "02:4D:42:00:0a:ff".parse().unwrap();
        assert_eq!(mac, Mac([0x02, 0x4d, 0x42, 0, 0x0a, 0xff]));
        assert_eq!(mac.to_string(), "02:4d:42:00:0a:ff");
        for wrong in [
            "",
            "02:4d:42:00:0a",
            "02:4d:42:00:0a:ff:00",
            "2:4d:42:00:0a:ff",
            "02:4d:42:00:0a:+f",
        ] {
            assert_eq!(wrong.parse::<Mac>(), Err(MacError), "{wrong}");
        }
    }

    #[test]
    fn groups_and_nobody_are_no_stations() {
        assert!(Mac::numbered(7).is_station());
        assert_ne!(Mac::numbered(1), Mac::numbered(1 << 24));
        assert!(!Mac::BROADCAST.is_station());
        assert!(!Mac([0x33, 0x33, 0, 0, 0, 1]).is_station());
        assert!(!Mac([0; 6]).is_station());
    }
}
