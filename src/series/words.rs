//! The command line for one experiment of a folder, made from that for the folder.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::Parser as _;

use crate::Cli;
use crate::host::{OPTION, inner_arguments};

/// The arguments that run one file as `given` runs its folder: an option's value may read like the folder,
/// so the one that makes another file of it counts. Options of the emulated host go where one is needed.
pub(super) fn words_for(
    given: &[OsString],
    folder: &Path,
    file: &Path,
    emulated: bool,
) -> Option<Vec<OsString>> {
    let mut words = match emulated {
        true => given.to_vec(),
        false => inner_arguments(given.iter().cloned()),
    };
    if emulated && !words.iter().any(|word| is_host(word)) {
        let end = words.iter().position(|word| word == "--");
        let end = end.unwrap_or(words.len());
        words.splice(end..end, [OPTION.into(), "emulated".into()]);
    }
    let places = words.iter().enumerate();
    let places = places.filter(|(_, word)| Path::new(word) == folder);
    let candidates = places.map(|(place, _)| {
        let mut words = words.clone();
        words[place] = file.into();
        words
    });
    candidates.into_iter().find(|words| {
        let all = [OsString::from("mirrorball")].into_iter();
        let read = Cli::try_parse_from(all.chain(words.iter().cloned()));
        read.is_ok_and(|read| read.runs(file))
    })
}

fn is_host(word: &OsStr) -> bool {
    let rest = word.as_encoded_bytes().strip_prefix(OPTION.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(given: &[&str], emulated: bool) -> String {
        let given = given.iter().map(OsString::from).collect::<Vec<_>>();
        let words = words_for(&given, Path::new("esx"), Path::new("esx/a.yaml"), emulated);
        let words = words.unwrap().into_iter();
        let words = words.map(|word| word.into_string().unwrap());
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_file_takes_the_place_of_its_folder_and_of_nothing_else() {
        let given = ["run", "-o", "esx", "esx", "--runs", "2"];
        assert_eq!(words(&given, false), "run -o esx esx/a.yaml --runs 2");
        let given = ["--json", "run", "esx/", "--output=esx"];
        assert_eq!(words(&given, false), "--json run esx/a.yaml --output=esx");
    }

    #[test]
    fn the_emulated_host_is_for_those_that_need_it() {
        assert_eq!(
            words(&["run", "esx"], true),
            "run esx/a.yaml --host emulated"
        );
        assert_eq!(
            words(&["run", "--", "esx"], true),
            "run --host emulated -- esx/a.yaml"
        );
        let given = [
            "run",
            "--host=emulated",
            "--host-memory",
            "3GiB",
            "esx",
            "--smoke",
        ];
        assert_eq!(
            words(&given, true),
            "run --host=emulated --host-memory 3GiB esx/a.yaml --smoke"
        );
        assert_eq!(words(&given, false), "run esx/a.yaml --smoke");
    }
}
