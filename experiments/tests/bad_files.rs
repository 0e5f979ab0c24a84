//! Every broken experiment file in `tests/bad` gives the messages beside it, word for word.
//!
//! After a wanted change of messages, `MIRRORBALL_BLESS=1 cargo test -p mirrorball-experiments`
//! writes them anew; read the difference before committing it.

use std::fs;
use std::path::Path;

use mirrorball_experiments::spec::{self, HostFacts};

const HOST: HostFacts = HostFacts {
    memory: 16 << 30,
    results: None,
};

#[test]
fn broken_files_are_explained() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let mut files = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect::<Vec<_>>();
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    files.sort();
    assert!(files.len() >= 30);
    let bless = std::env::var_os("MIRRORBALL_BLESS").is_some();
    let mut wrong = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let shown = match spec::check_text(name, text, &folder, &HOST) {
            Ok(_) => panic!("{name} was accepted"),
            Err(error) => format!("{error}\n"),
        };
        let expected = file.with_extension("stderr");
        if bless {
            fs::write(&expected, &shown).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != shown {
            wrong.push(format!("--- {name}\n{shown}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_message_names_a_place_and_what_would_be_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "stderr")
        {
            let text = fs::read_to_string(&path).unwrap();
            assert!(
                text.contains(".yaml:") && text.contains("expected: "),
                "{}:\n{text}",
                path.display()
            );
        }
    }
}
