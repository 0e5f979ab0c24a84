//! What packages there are, as apt knows it. Everything is asked of apt's own programs and said in
//! their words; nothing is installed, and only `apt-get update` needs root.
//!
//! apt keeps its parsed package lists in our cache folder: where it keeps none of its own (in
//! containers), every question would take a second.

use std::path::{Path, PathBuf};
use std::process::Output;

use crate::DebianError;
use crate::cache::{APT, Cache};
use crate::tool::{APT_CACHE, APT_GET, Tool, complaint};

/// apt, with its own files in a folder of the cache.
#[derive(Debug)]
pub(crate) struct Apt {
    folder: PathBuf,
}

/// A package in one version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Choice {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// How many names an error offers.
const OFFERED: usize = 6;
/// How alike a name must be to be offered (Jaro-Winkler).
const ALIKE: f64 = 0.88;

/// Names as Debian policy 5.6.7 has them. Anything else could be an option or a pattern to apt.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() > 1
        && name.bytes().next().is_some_and(allowed)
        && name
            .bytes()
            .all(|byte| allowed(byte) || b"+-.".contains(&byte))
}

/// Versions as Debian policy 5.6.12 has them.
pub(crate) fn is_version(version: &str) -> bool {
    let mut bytes = version.bytes();
    bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b".+-:~".contains(&byte))
}

/// Whether this is `name` or `name=version`.
pub(crate) fn is_request(package: &str) -> bool {
    match package.split_once('=') {
        Some((name, version)) => is_name(name) && is_version(version),
        None => is_name(package),
    }
}

impl Apt {
    /// apt for the one who holds the cache.
    pub(crate) fn new(cache: &Cache) -> Result<Self, DebianError> {
        let folder = cache.path(APT);
        std::fs::create_dir_all(&folder).map_err(|error| DebianError::io(&folder, error))?;
        Ok(Self { folder })
    }

    /// Runs a program of apt; its parsed lists are kept as `lists`.
    fn output(&self, tool: Tool, lists: &str, arguments: &[&str]) -> Result<Output, DebianError> {
        let place = |option: &str, name: &str| {
            let path = self.folder.join(name);
            format!("Dir::Cache::{option}={}.bin", path.display())
        };
        tool.output_with(&self.folder, |command| {
            command
                .args(["-o", &place("pkgcache", lists)])
                .args(["-o", &place("srcpkgcache", "sources")])
                .args(arguments)
        })
    }

    /// What `apt-cache` answers.
    fn ask(&self, arguments: &[&str]) -> Result<String, DebianError> {
        let output = self.output(APT_CACHE, "packages", arguments)?;
        let text = APT_CACHE.check(&self.folder, output)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The archives whose package lists apt has.
    pub(crate) fn archives(&self) -> Result<Vec<String>, DebianError> {
        let arguments = [
            "indextargets",
            "--format",
            "$(REPO_URI)",
            "Created-By: Packages",
        ];
        let output = self.output(APT_GET, "packages", &arguments)?;
        let text = APT_GET.check(&self.folder, output)?;
        let text = String::from_utf8_lossy(&text);
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Makes sure that there are package lists.
    pub(crate) fn ensure_lists(&self, progress: &dyn Fn(&str)) -> Result<(), DebianError> {
        let arguments = [
            "indextargets",
            "--format",
            "$(FILENAME)",
            "Created-By: Packages",
        ];
        let output = self.output(APT_GET, "packages", &arguments)?;
        let lists = APT_GET.check(&self.folder, output)?;
        if lists.is_empty() {
            progress("getting package lists (apt-get update)");
            return self.update();
        }
        Ok(())
    }

    /// Fetches the package lists anew.
    fn update(&self) -> Result<(), DebianError> {
        let output = APT_GET.output(&self.folder, &["-q", "update"])?;
        // Where nothing could be reached, apt warns and succeeds.
        let reason = complaint(&output);
        if output.status.success() && !reason.contains("Failed to fetch") {
            return Ok(());
        }
        Err(DebianError::NoLists { reason })
    }

    /// The version that apt would install, if the package exists.
    pub(crate) fn candidate(&self, name: &str) -> Result<Option<String>, DebianError> {
        Ok(read_candidate(&self.ask(&["policy", name])?))
    }

    /// All versions of these packages that can be downloaded, newest first for each package.
    pub(crate) fn versions(&self, names: &[&str]) -> Result<Vec<Choice>, DebianError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let arguments: Vec<&str> = ["madison"].iter().chain(names).copied().collect();
        Ok(read_madison(&self.ask(&arguments)?))
    }

    /// The names of all packages that begin with `prefix`.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>, DebianError> {
        let text = self.ask(&["pkgnames", prefix])?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The error for a name that no package has.
    pub(crate) fn unknown(&self, name: &str) -> DebianError {
        let all = self.names("").unwrap_or_default();
        DebianError::UnknownPackage {
            name: name.to_owned(),
            near: near(name, &all),
        }
    }

    /// Downloads packages into a folder; on failure, what apt says.
    pub(crate) fn download(
        &self,
        folder: &Path,
        packages: &[String],
    ) -> Result<Result<(), String>, DebianError> {
        let output = APT_GET.output_with(folder, |command| {
            command.args(["-q", "download"]).args(packages)
        })?;
        Ok(if output.status.success() {
            Ok(())
        } else {
            Err(complaint(&output))
        })
    }

    /// These packages (`name` or `name=version`), those of `base`, and everything they depend on, as
    /// apt would install them on a machine that has nothing, sorted by name.
    pub(crate) fn solve(
        &self,
        base: &[&str],
        packages: &[String],
    ) -> Result<Vec<Choice>, DebianError> {
        let nothing = self.folder.join("status");
        std::fs::write(&nothing, "").map_err(|error| DebianError::io(&nothing, error))?;
        let status = format!("Dir::State::status={}", nothing.display());
        let mut arguments = vec!["install", "--simulate", "--no-install-recommends"];
        arguments.extend(["-o", &status, "-o", "Debug::NoLocking=1", "--"]);
        arguments.extend(base);
        arguments.extend(packages.iter().map(String::as_str));
        let output = self.output(APT_GET, "nothing", &arguments)?;
        let text = String::from_utf8_lossy(&output.stdout);
        if output.status.success() {
            return Ok(read_simulation(&text));
        }
        for package in packages {
            let (name, version) = package.split_once('=').unwrap_or((package, ""));
            let known = self.versions(&[name])?;
            if known.is_empty() {
                return Err(self.unknown(name));
            }
            if !version.is_empty() && known.iter().all(|choice| choice.version != version) {
                return Err(unknown_version(name, version, known));
            }
        }
        Err(DebianError::Unsatisfiable {
            packages: packages.join(" "),
            reason: read_conflicts(&text).unwrap_or_else(|| complaint(&output)),
        })
    }
}

/// The error for a version that a package does not have.
pub(crate) fn unknown_version(name: &str, version: &str, known: Vec<Choice>) -> DebianError {
    DebianError::UnknownVersion {
        name: name.to_owned(),
        version: version.to_owned(),
        known: known.into_iter().map(|choice| choice.version).collect(),
    }
}

fn read_candidate(policy: &str) -> Option<String> {
    let mut lines = policy.lines().map(str::trim);
    let version = lines.find_map(|line| line.strip_prefix("Candidate: "))?;
    (version != "(none)").then(|| version.to_owned())
}

fn read_madison(text: &str) -> Vec<Choice> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.split('|').map(str::trim);
        let (Some(name), Some(version), Some(source)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let choice = Choice {
            name: name.to_owned(),
            version: version.to_owned(),
        };
        // The same version may come from several archives.
        if source.ends_with("Packages") && !found.contains(&choice) {
            found.push(choice);
        }
    }
    found
}

/// Those of `all` that look like `name`, the most alike first.
fn near(name: &str, all: &[String]) -> Vec<String> {
    let mut scored: Vec<(f64, &String)> = all
        .iter()
        .map(|other| (strsim::jaro_winkler(name, other), other))
        .filter(|(score, _)| *score > ALIKE)
        .collect();
    scored.sort_by(|one, two| two.0.total_cmp(&one.0).then_with(|| one.1.cmp(two.1)));
    let names = scored.into_iter().map(|(_, name)| name.clone());
    names.take(OFFERED).collect()
}

/// What apt says of packages that can't be had together: lines `name : Depends: other but ...`, and
/// more of the same below each without the name.
fn read_conflicts(text: &str) -> Option<String> {
    const KINDS: &[&str] = &["Depends: ", "PreDepends: ", "Conflicts: ", "Breaks: "];
    let lines = text.lines().map(str::trim);
    let told: Vec<&str> = lines
        .filter(|line| KINDS.iter().any(|kind| line.contains(kind)))
        .collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// Lines `Inst name (version archive [architecture])`.
fn read_simulation(text: &str) -> Vec<Choice> {
    let mut found: Vec<Choice> = text
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
            let (_, rest) = rest.split_once('(')?;
            let version = rest.split([' ', ')']).next()?;
            Some(Choice {
                name: name.to_owned(),
                version: version.to_owned(),
            })
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(name: &str, version: &str) -> Choice {
        Choice {
            name: name.to_owned(),
            version: version.to_owned(),
        }
    }

    #[test]
    fn the_candidate_is_read() {
        let text = "gcc:\n  Installed: (none)\n  Candidate: 4:12.2.0-3\n  Version table:\n";
        assert_eq!(read_candidate(text).as_deref(), Some("4:12.2.0-3"));
        assert_eq!(read_candidate("x:\n  Candidate: (none)\n"), None);
        assert_eq!(read_candidate(""), None);
    }

    #[test]
    fn versions_are_told_once_and_sources_are_left_out() {
        let text = "  gcc | 4:12.2 | http://deb/debian bookworm/main amd64 Packages\n  \
                    gcc | 4:12.2 | http://deb/security bookworm/main amd64 Packages\n  \
                    gcc | 4:10.2 | http://deb/debian bullseye/main amd64 Packages\n  \
                    gcc | 4:9 | http://deb/debian bullseye/main Sources\n";
        let expected = [choice("gcc", "4:12.2"), choice("gcc", "4:10.2")];
        assert_eq!(read_madison(text), expected);
    }

    #[test]
    fn a_simulated_installation_is_read() {
        let text = "Reading package lists...\nInst make (4.3-4.1 Debian:12/oldstable [amd64])\n\
                    Inst libc6 (2.36-9 Debian:12.15/oldstable, Security:12 [amd64]) []\n\
                    Inst dash [0.5.11] (0.5.12-2 Debian:12 [amd64])\nConf make (4.3-4.1 x [amd64])\n";
        let expected = [
            choice("dash", "0.5.12-2"),
            choice("libc6", "2.36-9"),
            choice("make", "4.3-4.1"),
        ];
        assert_eq!(read_simulation(text), expected);
    }

    #[test]
    fn conflicts_are_told_as_apt_does() {
        let text = "The following packages have unmet dependencies:\n \
                    exim4 : Conflicts: mta\n         Depends: x but it is not installable\n";
        let expected = "exim4 : Conflicts: mta; Depends: x but it is not installable";
        assert_eq!(read_conflicts(text).as_deref(), Some(expected));
        assert_eq!(read_conflicts("Reading package lists...\n"), None);
    }

    #[test]
    fn names_that_look_alike_are_offered_the_nearest_first() {
        let all = ["busybox", "busybox-static", "gcc", "busybee"].map(str::to_owned);
        assert_eq!(near("busybox-statik", &all)[0], "busybox-static");
        assert!(near("zzz", &all).is_empty());
    }

    #[test]
    fn names_and_versions_that_apt_would_take_for_something_else_are_refused() {
        for name in [
            "gcc",
            "libstdc++6",
            "linux-image-6.12.117+deb12-cloud-amd64",
        ] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "",
            "x",
            "-oX=y",
            "gcc/stable",
            "gcc=4",
            "?essential",
            "../x",
            "Gcc",
        ] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_version("6.12.117-1~deb12u1") && is_version("1:1.35.0-4+deb12u1+b1"));
        assert!(is_request("gcc=4:12.2.0-3") && is_request("gcc") && !is_request("gcc="));
        for version in ["", "../../x", "1/2", "-1"] {
            assert!(!is_version(version), "{version}");
        }
    }
}
