//! The command and its surroundings, as shell files that the init reads.

use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use mirrorball_debian::cpio;

use crate::HostError;
use crate::machine::Machine;
use crate::relay::{Size, Streams, Terminals};
use crate::shares::Share;

/// Environment variable that says, inside, on which kind of host the command runs.
pub(crate) const KIND: &str = "MIRRORBALL_HOST";
/// Its value.
pub(crate) const EMULATED: &str = "emulated";

/// Variables that change what a program finds or how it writes. Others stay outside: a machine
/// that is recorded with a result should not depend on all of its user's environment.
const CARRIED: [&str; 15] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "TZ",
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "CARGO_HOME",
    "COLUMNS",
];
/// Beginnings of such variables.
const CARRIED_PREFIXES: [&str; 3] = ["LC_", "RUST_", "MIRRORBALL_"];

/// The folder for temporary files, which the init makes.
const TEMPORARY: &str = "/.mirrorball/tmp";

/// A command, and what it finds around itself.
#[derive(Clone, Debug)]
pub struct Job {
    /// The program, as an absolute path on this machine, and its arguments.
    pub command: Vec<OsString>,
    /// Its working folder, absolute.
    pub working_folder: PathBuf,
    /// Its environment, beside what describes the emulated host.
    pub environment: Vec<(OsString, OsString)>,
    /// Folders that it writes to and whose files are wanted afterwards; made if they are missing.
    pub writable: Vec<PathBuf>,
}

impl Job {
    /// This program again, with other arguments, in the same folder and a like environment.
    ///
    /// # Errors
    /// The program or the folder is gone.
    pub fn ourselves(
        arguments: impl IntoIterator<Item = OsString>,
        writable: Vec<PathBuf>,
    ) -> io::Result<Self> {
        let program = std::env::current_exe()?;
        let carried = |(name, _): &(OsString, OsString)| {
            let name = name.to_string_lossy();
            CARRIED.contains(&&*name) || CARRIED_PREFIXES.iter().any(|p| name.starts_with(p))
        };
        let mut environment: Vec<_> = std::env::vars_os().filter(carried).collect();
        // Inside, everyone is root; git would not tell the commit of another user's checkout.
        let trust = [
            ("COUNT", "1"),
            ("KEY_0", "safe.directory"),
            ("VALUE_0", "*"),
        ];
        let trust = trust.map(|(name, value)| (format!("GIT_CONFIG_{name}").into(), value.into()));
        environment.extend(trust);
        Ok(Self {
            command: std::iter::once(program.into_os_string())
                .chain(arguments)
                .collect(),
            working_folder: std::env::current_dir()?,
            environment,
            writable,
        })
    }
}

/// What the init is told beside the command.
#[derive(Debug)]
pub(crate) struct Setting {
    machine: Machine,
    terminals: Terminals,
    /// What follows the last byte of each stream.
    pub(crate) mark: String,
}

impl Setting {
    pub(crate) fn new(machine: &Machine, streams: &Streams) -> Self {
        // Not a secret, only a word that nobody prints by chance.
        let random = || RandomState::new().build_hasher().finish();
        Self {
            machine: *machine,
            terminals: streams.terminals(),
            mark: format!("\u{4}{:016x}{:016x}", random(), random()),
        }
    }
}

/// The archive with the init's `settings`, `shares` and `job`.
pub(crate) fn archive(
    job: &Job,
    setting: &Setting,
    shares: &[Share],
) -> Result<Vec<u8>, HostError> {
    let mut archive = cpio::Archive::new();
    archive.file("host/settings", 0o600, settings(setting).as_bytes());
    archive.file("host/shares", 0o600, &share_lines(shares));
    archive.file("host/job", 0o600, &script(job, &setting.machine)?);
    Ok(archive.finish())
}

fn settings(setting: &Setting) -> String {
    let Terminals { stdout, stderr } = setting.terminals;
    // Consoles are numbered in the order of their ports.
    let second = if stdout.is_some() { "hvc1" } else { "hvc0" };
    format!(
        "nested_paging={}\nby_instructions={}\nmark='{}'\n{}{}",
        u8::from(setting.machine.nested_paging),
        u8::from(setting.machine.by_instructions),
        setting.mark,
        terminal("stdout", "hvc0", stdout),
        terminal("stderr", second, stderr),
    )
}

fn terminal(stream: &str, device: &str, size: Option<Size>) -> String {
    size.map_or_else(
        || format!("{stream}_terminal=\n{stream}_size=\n"),
        |Size { columns, rows }| {
            format!("{stream}_terminal={device}\n{stream}_size='cols {columns} rows {rows}'\n")
        },
    )
}

fn share_lines(shares: &[Share]) -> Vec<u8> {
    let mut lines = Vec::new();
    for share in shares {
        lines.extend_from_slice(format!("share {} ", share.tag).as_bytes());
        lines.extend(quoted(share.path.as_os_str()));
        lines.push(b'\n');
    }
    lines
}

/// The script that becomes the command, below the root that the command sees. It says `ready` at
/// the last moment before.
fn script(job: &Job, machine: &Machine) -> Result<Vec<u8>, HostError> {
    let program = job.command.first().map(Path::new);
    for path in [program, Some(&job.working_folder)].into_iter().flatten() {
        if !path.is_absolute() {
            return Err(HostError::path(
                path,
                "the emulated host needs an absolute path",
            ));
        }
    }
    let mut script = b"echo $$ >/.mirrorball/pid\ncd ".to_vec();
    script.extend(quoted(job.working_folder.as_os_str()));
    script.extend_from_slice(
        b" || exit 126\nulimit -n 1048576\necho ready >&3\nexec /.mirrorball/busybox env -i \\\n",
    );
    let told = described(machine);
    for (name, value) in job.environment.iter().chain(&told) {
        let mut both = name.clone();
        both.push("=");
        both.push(value);
        script.extend(quoted(&both));
        script.push(b' ');
    }
    for word in &job.command {
        script.extend(quoted(word));
        script.push(b' ');
    }
    script.extend_from_slice(b"3>&-\n");
    Ok(script)
}

/// The variables that describe the emulated host, and its folder for temporary files.
fn described(machine: &Machine) -> [(OsString, OsString); 8] {
    let switch = |on| if on { "on" } else { "off" }.to_owned();
    let variable = |name: &str, value: String| (format!("{KIND}{name}").into(), value.into());
    [
        variable("", EMULATED.into()),
        variable("_MEMORY", machine.memory.to_string()),
        variable("_CORES", machine.cores.to_string()),
        variable("_NUMA", machine.numa_nodes.to_string()),
        variable("_NPT", switch(machine.nested_paging)),
        variable("_PARALLEL", switch(machine.parallel)),
        variable("_BY_INSTRUCTIONS", switch(machine.by_instructions)),
        // In memory. A folder of the outer machine's would not do: a file that is unlinked while it is
        // open can't be resized over 9p, and results may well be wanted in `/tmp`.
        ("TMPDIR".into(), TEMPORARY.into()),
    ]
}

/// A word for the shell that stands for exactly these bytes.
fn quoted(word: &OsStr) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for &byte in word.as_bytes() {
        if byte == b'\'' {
            quoted.extend_from_slice(br"'\''");
        } else {
            quoted.push(byte);
        }
    }
    quoted.push(b'\'');
    OsString::from_vec(quoted).into_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_quoted_word_is_the_same_word_to_a_shell() {
        for word in [
            &b"plain"[..],
            b"it's",
            b"a b\n$HOME `x` \\ \"",
            b"",
            b"\xff\x80",
            b"''",
        ] {
            let mut line = b"printf %s ".to_vec();
            line.extend(quoted(OsStr::from_bytes(word)));
            let shell = Command::new("/bin/sh")
                .arg("-c")
                .arg(OsStr::from_bytes(&line))
                .output();
            assert_eq!(shell.unwrap().stdout, word);
        }
    }

    fn machine() -> Machine {
        Machine {
            memory: 3 << 30,
            cores: 2,
            numa_nodes: 1,
            nested_paging: false,
            parallel: false,
            by_instructions: false,
        }
    }

    #[test]
    fn the_script_becomes_the_command_with_its_environment() {
        let job = Job {
            command: vec!["/bin/x".into(), "it's".into()],
            working_folder: "/my folder".into(),
            environment: vec![("A".into(), "b c".into())],
            writable: vec![],
        };
        let script = String::from_utf8(script(&job, &machine()).unwrap()).unwrap();
        let end = script.lines().last().unwrap();
        assert!(
            end.starts_with("'A=b c' 'MIRRORBALL_HOST=emulated' "),
            "{end}"
        );
        assert!(
            end.contains("'MIRRORBALL_HOST_MEMORY=3221225472' "),
            "{end}"
        );
        assert!(end.contains("'MIRRORBALL_HOST_NPT=off' "), "{end}");
        assert!(end.contains("'TMPDIR=/.mirrorball/tmp' "), "{end}");
        assert!(end.ends_with(r"'/bin/x' 'it'\''s' 3>&-"), "{end}");
        assert!(script.contains("cd '/my folder' || exit 126\n"));
    }

    #[test]
    fn relative_paths_are_refused() {
        let mut job = Job {
            command: vec!["x".into()],
            working_folder: "/".into(),
            environment: vec![],
            writable: vec![],
        };
        assert!(script(&job, &machine()).is_err());
        job.command = vec!["/x".into()];
        script(&job, &machine()).unwrap();
        job.working_folder = "here".into();
        assert!(script(&job, &machine()).is_err());
    }

    #[test]
    fn terminals_are_numbered_as_their_ports_are() {
        let size = Some(Size {
            columns: 90,
            rows: 30,
        });
        let setting = |stdout, stderr| {
            settings(&Setting {
                machine: machine(),
                terminals: Terminals { stdout, stderr },
                mark: "m".into(),
            })
        };
        let both = setting(size, size);
        assert!(both.contains("stdout_terminal=hvc0\nstdout_size='cols 90 rows 30'\n"));
        assert!(both.contains("stderr_terminal=hvc1\n"));
        let one = setting(None, size);
        assert!(one.contains("stdout_terminal=\n") && one.contains("stderr_terminal=hvc0\n"));
        assert!(one.starts_with("nested_paging=0\n"));
    }
}
