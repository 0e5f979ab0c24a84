//! A guest's job: the commands that its `init` runs, as a small archive after its initramfs.
//!
//! So one initramfs serves every guest of an image, and its pages are the same in all of them.

use crate::cpio::Archive;

/// The folder that holds the job in the guest's initramfs.
const FOLDER: &str = "etc/mirrorball/job";

/// An archive with these shell commands, to be run one after the other with these variables in
/// their environment. It is a second part of the initramfs, after the image's.
#[must_use]
pub fn job(commands: &[String], environment: &[(String, String)]) -> Vec<u8> {
    let mut archive = Archive::new();
    archive.dir(FOLDER);
    for (number, command) in commands.iter().enumerate() {
        archive.file(&format!("{FOLDER}/{number}"), 0o644, command.as_bytes());
    }
    // `init` reads it as shell and hands the words to env(1), which takes any name.
    let words: String = environment
        .iter()
        .map(|(name, value)| format!(" {}", quoted(&format!("{name}={value}"))))
        .collect();
    let text = format!("set --{words}\n");
    archive.file(&format!("{FOLDER}/environment"), 0o644, text.as_bytes());
    archive.finish()
}

/// A word that the shell reads as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_shell_reads_words_as_they_are() {
        for word in ["", "a b", "it's", "$HOME `id` \\ \"x\"", "two\nlines", "*"] {
            let script = format!("printf %s {}", quoted(word));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }

    #[test]
    fn commands_are_numbered_files_and_may_be_none() {
        let text = String::from_utf8_lossy(&job(&[], &[])).into_owned();
        assert!(text.contains("etc/mirrorball/job/environment") && text.contains("set --\n"));
        assert!(!text.contains("job/0"));
        let commands = ["true".to_owned(), "echo 'x'; exit 3".to_owned()];
        let environment = [("N".to_owned(), "1 2".to_owned())];
        let raw = job(&commands, &environment);
        let text = String::from_utf8_lossy(&raw);
        assert!(text.contains("job/1\0") && text.contains("echo 'x'; exit 3"));
        assert!(text.contains("set -- 'N=1 2'\n"));
        assert_eq!(raw.len() % 4, 0);
    }
}
