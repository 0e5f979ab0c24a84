//! The thin guest's ELF image, as bytes in the program that starts guests.
//!
//! The build script makes it from the `mirrorball-splash` package; nothing here knows how it is
//! loaded.
#![no_std]

/// The image: a static ELF64 executable with its symbol table, linked for
/// `mirrorball_abi::layout::IMAGE_BASE`. The symbols let a monitor name the function of a fault.
pub static SPLASH: &[u8] = include_bytes!(env!("MIRRORBALL_SPLASH"));

#[cfg(test)]
mod tests {
    use super::SPLASH;

    #[test]
    fn it_is_a_static_executable() {
        assert_eq!(&SPLASH[..6], b"\x7fELF\x02\x01", "64-bit, little-endian");
        assert_eq!(
            &SPLASH[16..20],
            [2, 0, 62, 0],
            "ET_EXEC, x86-64: not position-independent"
        );
    }
}
