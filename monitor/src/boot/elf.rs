//! Reading a guest's ELF image: what goes where with which rights, and what function is where.
//!
//! The image comes from our own build or from a test, but it is checked like foreign input: a bad
//! one gives a [`BootError`], never a panic.

use std::ops::Range;

use mirrorball_abi::layout;
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{LittleEndian, Object, ObjectSymbol, elf};

use super::BootError;

const PAGE: u64 = layout::PAGE_SIZE as u64;

/// What the guest may do with a page beyond reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(crate) write: bool,
    pub(crate) execute: bool,
}

#[derive(Debug)]
struct Segment<'a> {
    memory: Range<u64>,
    data: &'a [u8],
    rights: Rights,
}

/// An executable's loadable part.
#[derive(Debug)]
pub(crate) struct Elf<'a> {
    segments: Vec<Segment<'a>>,
    entry: u64,
}

impl<'a> Elf<'a> {
    /// Reads the program headers of a statically linked x86-64 executable.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, BootError> {
        let header = elf::FileHeader64::<LittleEndian>::parse(bytes).map_err(bad)?;
        let endian = header.endian().map_err(bad)?;
        if header.e_type(endian) != elf::ET_EXEC || header.e_machine(endian) != elf::EM_X86_64 {
            return Err(BootError::BadImage("not a static x86-64 executable".into()));
        }
        let mut segments = Vec::new();
        for program in header.program_headers(endian, bytes).map_err(bad)? {
            if program.p_type(endian) == elf::PT_LOAD && program.p_memsz(endian) > 0 {
                segments.push(Segment::read(program, bytes)?);
            }
        }
        segments.sort_by_key(|segment| segment.memory.start);
        let overlap = segments
            .windows(2)
            .any(|two| two[0].memory.end > two[1].memory.start);
        let elsewhere = segments
            .first()
            .is_none_or(|first| first.memory.start != layout::IMAGE_BASE);
        if overlap || elsewhere {
            return Err(BootError::BadImage(
                "segments overlap or do not begin at the image base".into(),
            ));
        }
        Ok(Self {
            segments,
            entry: header.e_entry(endian),
        })
    }

    pub(crate) const fn entry(&self) -> u64 {
        self.entry
    }

    /// Pages of the image in memory, zero-initialised data included.
    pub(crate) fn pages(&self) -> Range<u64> {
        round(
            self.start()
                ..self
                    .segments
                    .iter()
                    .map(|s| s.memory.end)
                    .max()
                    .unwrap_or(0),
        )
    }

    /// Pages that hold bytes of the file. What follows is zero, as untouched memory is anyway.
    pub(crate) fn file_pages(&self) -> Range<u64> {
        round(
            self.start()
                ..self
                    .segments
                    .iter()
                    .map(Segment::file_end)
                    .max()
                    .unwrap_or(0),
        )
    }

    fn start(&self) -> u64 {
        self.segments
            .first()
            .map_or(0, |segment| segment.memory.start)
    }

    /// Copies the file's bytes to where they belong in `memory`, whose first byte is the first of
    /// [`Self::file_pages`].
    pub(crate) fn copy_to(&self, memory: &mut [u8]) {
        let start = self.file_pages().start;
        for segment in &self.segments {
            let at = usize::try_from(segment.memory.start - start).unwrap_or(usize::MAX);
            let place = memory
                .get_mut(at..)
                .and_then(|rest| rest.get_mut(..segment.data.len()));
            if let Some(place) = place {
                place.copy_from_slice(segment.data);
            }
        }
    }

    /// The pages of the image with their rights, ascending.
    ///
    /// # Errors
    /// A page would be both writable and executable.
    pub(crate) fn rights(&self) -> Result<Vec<(u64, Rights)>, BootError> {
        let mut pages: Vec<(u64, Rights)> = Vec::new();
        for segment in &self.segments {
            let range = round(segment.memory.clone());
            for page in (range.start..range.end).step_by(layout::PAGE_SIZE) {
                match pages.last_mut() {
                    Some((last, rights)) if *last == page => {
                        rights.write |= segment.rights.write;
                        rights.execute |= segment.rights.execute;
                    }
                    _ => pages.push((page, segment.rights)),
                }
            }
        }
        match pages
            .iter()
            .find(|(_, rights)| rights.write && rights.execute)
        {
            Some((page, _)) => Err(BootError::WritableCode(*page)),
            None => Ok(pages),
        }
    }
}

impl<'a> Segment<'a> {
    fn read(
        program: &elf::ProgramHeader64<LittleEndian>,
        bytes: &'a [u8],
    ) -> Result<Self, BootError> {
        let endian = LittleEndian;
        let start = program.p_vaddr(endian);
        let data = program
            .data(endian, bytes)
            .map_err(|()| BootError::BadImage("a segment lies outside the file".into()))?;
        let end = start
            .checked_add(program.p_memsz(endian))
            .filter(|end| *end <= layout::MAX_MEMORY)
            .ok_or_else(|| BootError::BadImage("a segment ends beyond guest memory".into()))?;
        if data.len() as u64 > end - start {
            return Err(BootError::BadImage(
                "a segment is longer in the file".into(),
            ));
        }
        let flags = program.p_flags(endian);
        let rights = Rights {
            write: flags.0 & elf::PF_W.0 != 0,
            execute: flags.0 & elf::PF_X.0 != 0,
        };
        Ok(Self {
            memory: start..end,
            data,
            rights,
        })
    }

    const fn file_end(&self) -> u64 {
        self.memory.start + self.data.len() as u64
    }
}

fn bad(error: object::read::Error) -> BootError {
    BootError::BadImage(error.to_string())
}

const fn round(range: Range<u64>) -> Range<u64> {
    range.start / PAGE * PAGE..range.end.next_multiple_of(PAGE)
}

/// The function that holds `address`, demangled, with the offset in it.
pub(crate) fn symbol_at(elf: &[u8], address: u64) -> Option<String> {
    let file = ElfFile64::<LittleEndian>::parse(elf).ok()?;
    let symbol = file
        .symbols()
        .filter(|symbol| symbol.kind() == object::SymbolKind::Text)
        .filter(|symbol| {
            (symbol.address()..symbol.address().saturating_add(symbol.size())).contains(&address)
        })
        .max_by_key(ObjectSymbol::address)?;
    let name = rustc_demangle::demangle(symbol.name().ok()?);
    Some(format!("{name:#}+{:#x}", address - symbol.address()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mirrorball_splash_image::SPLASH;

    #[test]
    fn the_thin_guest_has_separate_code_and_data() {
        let elf = Elf::parse(SPLASH).unwrap();
        assert_eq!(elf.pages().start, layout::IMAGE_BASE);
        assert!(elf.file_pages().end <= elf.pages().end);
        let rights = elf.rights().unwrap();
        let entry = rights
            .iter()
            .find(|(page, _)| *page == elf.entry() / PAGE * PAGE);
        assert_eq!(
            entry.unwrap().1,
            Rights {
                write: false,
                execute: true
            }
        );
        assert!(rights.iter().any(|(_, rights)| rights.write));
        assert!(
            symbol_at(SPLASH, elf.entry())
                .unwrap()
                .starts_with("_start+0x0")
        );
        assert_eq!(symbol_at(SPLASH, 0x10), None);

        let mut memory =
            vec![0; usize::try_from(elf.file_pages().end - layout::IMAGE_BASE).unwrap()];
        elf.copy_to(&mut memory);
        let at = usize::try_from(elf.entry() - layout::IMAGE_BASE).unwrap();
        assert_ne!(memory[at..at + 16], [0; 16]);
    }

    #[test]
    fn damaged_images_are_refused_or_harmless() {
        assert!(Elf::parse(&[]).is_err());
        assert!(Elf::parse(b"#!/bin/sh").is_err());
        assert!(
            Elf::parse(&SPLASH[..512]).is_err(),
            "the segments are cut off"
        );
        // Every byte of the file and program headers in turn.
        for at in 0..512 {
            for wrong in [0, 1, 0x7f, 0xff] {
                let mut bytes = SPLASH.to_vec();
                bytes[at] = wrong;
                if let Ok(elf) = Elf::parse(&bytes) {
                    let _ = elf.rights();
                    elf.copy_to(&mut [0; 4096]);
                    let _ = symbol_at(&bytes, elf.entry());
                }
            }
        }
    }

    #[test]
    fn writable_code_is_refused() {
        let mut bytes = SPLASH.to_vec();
        // The flags of the first program header, the text's: 4 bytes after its type.
        assert_eq!(bytes[68..72], [5, 0, 0, 0]);
        bytes[68] = 7;
        let error = Elf::parse(&bytes).unwrap().rights().unwrap_err();
        assert!(
            matches!(error, BootError::WritableCode(layout::IMAGE_BASE)),
            "{error}"
        );
    }
}
