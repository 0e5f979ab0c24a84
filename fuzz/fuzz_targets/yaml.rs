//! Anything as an experiment file: an experiment or diagnostics, never a panic, never an empty
//! complaint; and the same text has the same answer twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mirrorball_experiments::spec::{HostFacts, SpecError, check_text};
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let host = HostFacts { memory: 8 << 30, results: Some(std::env::temp_dir()) };
    let folder = Path::new("/nonexistent");
    match check_text("fuzz.yaml", text.to_owned(), folder, &host) {
        Ok(loaded) => {
            let again = check_text("fuzz.yaml", text.to_owned(), folder, &host);
            assert_eq!(format!("{:?}", again.unwrap().experiment), format!("{:?}", loaded.experiment));
        }
        Err(SpecError::Invalid { rendered, diagnostics }) => {
            assert_eq!(rendered.len(), diagnostics.len());
            assert!(!rendered.is_empty());
            for message in rendered {
                assert!(message.contains("fuzz.yaml"), "no place in: {message}");
            }
        }
        Err(other) => panic!("text in memory can't be unreadable: {other}"),
    }
});
