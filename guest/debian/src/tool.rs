//! The programs that do the work: apt, dpkg, tar, xz, mkfs.ext4. They say why they failed in English.

use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::DebianError;

/// A program and the Debian package that has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
}

pub(crate) const APT_GET: Tool = Tool::new("apt-get", "apt");
pub(crate) const APT_CACHE: Tool = Tool::new("apt-cache", "apt");
pub(crate) const APT_CONFIG: Tool = Tool::new("apt-config", "apt");
pub(crate) const DPKG: Tool = Tool::new("dpkg", "dpkg");
pub(crate) const TAR: Tool = Tool::new("tar", "tar");
pub(crate) const MKFS: Tool = Tool::new("mkfs.ext4", "e2fsprogs");

impl Tool {
    pub(crate) const fn new(name: &'static str, package: &'static str) -> Self {
        Self { name, package }
    }

    /// Runs the program in `folder` and collects what it says, whatever its exit status is.
    pub(crate) fn output(self, folder: &Path, arguments: &[&str]) -> Result<Output, DebianError> {
        self.output_with(folder, |command| command.args(arguments))
    }

    /// The same, with anything else that the caller sets.
    pub(crate) fn output_with(
        self,
        folder: &Path,
        set: impl Fn(&mut Command) -> &mut Command,
    ) -> Result<Output, DebianError> {
        // /sbin is not on everyone's PATH.
        for place in ["", "/usr/sbin/", "/sbin/"] {
            let mut command = Command::new(format!("{place}{}", self.name));
            match set(&mut command).in_english(folder).output() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(DebianError::io(Path::new(self.name), error)),
                Ok(output) => return Ok(output),
            }
        }
        let (tool, package) = (self.name, self.package);
        Err(DebianError::ToolMissing { tool, package })
    }

    /// Runs the program that lies at `path` and collects what it says.
    pub(crate) fn output_at(self, path: &Path, arguments: &[&str]) -> Result<Output, DebianError> {
        let mut command = Command::new(path);
        command.args(arguments);
        let output = command.in_english(Path::new("/")).output();
        output.map_err(|error| DebianError::io(path, error))
    }

    /// What the program prints.
    ///
    /// # Errors
    /// It is missing or fails; where it failed for want of space, that.
    pub(crate) fn run(self, folder: &Path, arguments: &[&str]) -> Result<Vec<u8>, DebianError> {
        let output = self.output(folder, arguments)?;
        self.check(folder, output)
    }

    /// What a program that ran in `folder` printed, if it succeeded.
    pub(crate) fn check(self, folder: &Path, output: Output) -> Result<Vec<u8>, DebianError> {
        if output.status.success() {
            return Ok(output.stdout);
        }
        let reason = complaint(&output);
        if says_full(&reason) {
            let path = folder.to_owned();
            return Err(DebianError::NoSpace { path });
        }
        Err(DebianError::ToolFailed {
            tool: self.name,
            status: output.status.to_string(),
            reason,
        })
    }
}

trait InEnglish {
    /// Sets what every program here is run with: a folder, messages that can be read, no input.
    fn in_english(&mut self, folder: &Path) -> &mut Self;
}

impl InEnglish for Command {
    fn in_english(&mut self, folder: &Path) -> &mut Self {
        self.current_dir(folder)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
    }
}

/// Whether a program failed because the disk is full.
pub(crate) fn says_full(reason: &str) -> bool {
    [
        "No space left on device",
        "Disk quota exceeded",
        "don't have enough free space",
    ]
    .iter()
    .any(|words| reason.contains(words))
}

/// What a program said about its failure: its errors, or else its last lines.
pub(crate) fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines
        .map(|line| line.strip_prefix("W: ").unwrap_or(line))
        .collect();
    let errors: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("E: "))
        .collect();
    let told = if errors.is_empty() { &lines } else { &errors };
    told[told.len().saturating_sub(3)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn failed(stderr: &str) -> DebianError {
        let output = Output {
            status: ExitStatus::from_raw(1 << 8),
            stdout: Vec::new(),
            stderr: stderr.into(),
        };
        DPKG.check(Path::new("/cache"), output).unwrap_err()
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let tool = Tool::new("mirrorball-no-such-program", "such");
        let text = tool.run(Path::new("/"), &[]).unwrap_err().to_string();
        assert!(
            text.contains("mirrorball-no-such-program") && text.contains("`such`"),
            "{text}"
        );
    }

    #[test]
    fn apts_errors_are_told_without_its_warnings() {
        let text = failed("W: old\nE: Unable to fetch\nE: no route\n").to_string();
        assert!(text.ends_with("Unable to fetch; no route"), "{text}");
        assert!(text.contains("exit status: 1"), "{text}");
    }

    #[test]
    fn a_full_disk_is_recognised() {
        let error = failed("tar: ./x: Cannot write: No space left on device\n");
        assert!(matches!(error, DebianError::NoSpace { path } if path == Path::new("/cache")));
    }
}
