//! Debian's source packages: upstream's files as Debian keeps them, without Debian's patches.
//!
//! Most machines' apt knows no source packages (their sources.list names only binaries). So apt is
//! given lists of its own here: the same archives and keys as the machine's, asked for sources. The
//! machine's own lists are left alone, and no root is needed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::DebianError;
use crate::apt::{self, Apt};
use crate::cache::{APT, Cache, digest_of};
use crate::package::{self, Unpacked};
use crate::tool::{APT_CACHE, APT_CONFIG, APT_GET, TAR, complaint};

/// How Debian tells a source package's name from a binary's.
const PREFIX: &str = "src:";
/// The folders, beside apt's parsed lists, of what it is asked with here.
const PARTS: &str = "source-parts";
const LISTS: &str = "source-lists";

/// These source packages (`name` or `name=version`), each below `usr/src/NAME`.
pub(crate) fn fetch_sources(
    cache: &Cache,
    requests: &[String],
    progress: &dyn Fn(&str),
) -> Result<Vec<Unpacked>, DebianError> {
    let fetch = |request: &String| fetch_source(cache, request, progress);
    requests.iter().map(fetch).collect()
}

fn fetch_source(
    cache: &Cache,
    request: &str,
    progress: &dyn Fn(&str),
) -> Result<Unpacked, DebianError> {
    let (name, version) = match request.split_once('=') {
        Some((name, version)) => (name, Some(version)),
        None => (request, None),
    };
    if !apt::is_request(request) {
        return Err(Apt::new(cache)?.unknown(name));
    }
    let called = format!("{PREFIX}{name}");
    if let Some(found) = version.and_then(|version| package::cached(cache, &called, version)) {
        return Ok(found);
    }
    let wanted = Lists::open(cache).and_then(|lists| {
        let files = lists.files(cache, request, progress)?;
        Ok((lists, files))
    });
    let (lists, files) = match wanted {
        Ok(wanted) => wanted,
        Err(error) => {
            let known = package::any_cached(cache, &called).filter(|_| version.is_none());
            let Some(found) = known else {
                return Err(error);
            };
            progress(&format!("{error}; using {called} {}", found.version));
            return Ok(found);
        }
    };
    match package::cached(cache, &called, &files.version) {
        Some(found) => Ok(found),
        None => download(cache, &lists, request, &called, &files, progress),
    }
}

/// Downloads and unpacks a source package, and gives it its place in the cache.
fn download(
    cache: &Cache,
    lists: &Lists,
    request: &str,
    called: &str,
    files: &Files,
    progress: &dyn Fn(&str),
) -> Result<Unpacked, DebianError> {
    progress(&format!("downloading {called} {}", files.version));
    let scratch = cache.scratch()?;
    let output = lists.ask(
        scratch.path(),
        &["-q", "source", "--download-only", "--", request],
    )?;
    if !output.status.success() {
        return Err(DebianError::Download {
            package: called.to_owned(),
            reason: complaint(&output),
        });
    }
    let archive = scratch.path().join(&files.archive);
    let made = scratch.path().join("package");
    let name = called.trim_start_matches(PREFIX);
    let folder = made.join(package::FILES).join("usr/src").join(name);
    fs::create_dir_all(&folder).map_err(|error| DebianError::io(&folder, error))?;
    let (from, to) = (archive.to_string_lossy(), folder.to_string_lossy());
    let arguments = ["--extract", "--no-same-owner", "--strip-components=1"];
    let places = ["--file", &from, "--directory", &to];
    TAR.run(scratch.path(), &[&arguments[..], &places].concat())?;
    let unpacked = Unpacked {
        folder: PathBuf::new(),
        name: called.to_owned(),
        version: files.version.clone(),
        sha256: digest_of(&archive)?,
    };
    package::keep(cache, &made, unpacked)
}

/// The files of a source package.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    version: String,
    /// The archive with upstream's files.
    archive: String,
}

impl Files {
    /// Whether this is what was asked for: apt is content with the beginning of a version. Names of
    /// files lack its epoch.
    fn are_of(&self, request: &str) -> bool {
        let Some((_, version)) = request.split_once('=') else {
            return true;
        };
        let version = version.split_once(':').map_or(version, |(_, rest)| rest);
        self.version == version
    }
}

/// apt's lists of source packages.
#[derive(Debug)]
struct Lists {
    parts: PathBuf,
    lists: PathBuf,
}

impl Lists {
    /// The lists in the cache, for the archives that this machine's apt knows.
    fn open(cache: &Cache) -> Result<Self, DebianError> {
        let apt = Apt::new(cache)?;
        let (parts, lists) = (cache.path(APT).join(PARTS), cache.path(APT).join(LISTS));
        for folder in [&parts, &lists.join("partial")] {
            fs::create_dir_all(folder).map_err(|error| DebianError::io(folder, error))?;
        }
        let archives = apt.archives()?;
        for place in places(cache)? {
            let Some(name) = place.file_name() else {
                continue;
            };
            let Ok(text) = fs::read_to_string(&place) else {
                continue;
            };
            let text = if place.extension().is_some_and(|end| end == "sources") {
                stanzas_for_sources(&text, &archives)
            } else {
                lines_for_sources(&text, &archives)
            };
            let path = parts.join(name);
            fs::write(&path, text).map_err(|error| DebianError::io(&path, error))?;
        }
        Ok(Self { parts, lists })
    }

    /// Asks apt-get, which keeps to these lists.
    fn ask(&self, folder: &Path, arguments: &[&str]) -> Result<std::process::Output, DebianError> {
        APT_GET.output_with(folder, |command| {
            command.args(self.options()).args(arguments)
        })
    }

    fn options(&self) -> Vec<String> {
        let (parts, lists) = (self.parts.display(), self.lists.display());
        // Of apt's own user nobody knows whether it may look into the cache.
        let options = [
            "Dir::Etc::sourcelist=/dev/null".to_owned(),
            format!("Dir::Etc::sourceparts={parts}"),
            format!("Dir::State::lists={lists}"),
            "Dir::Cache::pkgcache=".to_owned(),
            "Dir::Cache::srcpkgcache=".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
        ];
        let pairs = options
            .into_iter()
            .flat_map(|option| ["-o".to_owned(), option]);
        pairs.collect()
    }

    /// The files of a package. What the lists don't have is looked for once more in new ones.
    fn files(
        &self,
        cache: &Cache,
        request: &str,
        progress: &dyn Fn(&str),
    ) -> Result<Files, DebianError> {
        let look = || -> Result<Option<Files>, DebianError> {
            let arguments = ["-q", "source", "--print-uris", "--", request];
            let output = self.ask(&self.lists, &arguments)?;
            let text = String::from_utf8_lossy(&output.stdout);
            let found = read_files(&text).filter(|_| output.status.success());
            Ok(found.filter(|files| files.are_of(request)))
        };
        if let Some(files) = look()? {
            return Ok(files);
        }
        progress("getting lists of source packages (apt-get update)");
        let output = self.ask(&self.lists, &["-q", "update"])?;
        if let Some(files) = look()? {
            return Ok(files);
        }
        let reason = complaint(&output);
        if !output.status.success() || reason.contains("Failed to fetch") {
            return Err(DebianError::NoLists { reason });
        }
        let (name, version) = request.split_once('=').unwrap_or((request, ""));
        let known = self.versions(name)?;
        if known.is_empty() || version.is_empty() {
            return Err(Apt::new(cache)?.unknown(name));
        }
        Err(DebianError::UnknownVersion {
            name: name.to_owned(),
            version: version.to_owned(),
            known,
        })
    }

    /// The versions of a source package.
    fn versions(&self, name: &str) -> Result<Vec<String>, DebianError> {
        let output = APT_CACHE.output_with(&self.lists, |command| {
            command
                .args(self.options())
                .args(["showsrc", "--only-source", "--", name])
        })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let versions = text
            .lines()
            .filter_map(|line| line.strip_prefix("Version: "));
        Ok(versions.map(str::to_owned).collect())
    }
}

/// The files that name this machine's archives.
fn places(cache: &Cache) -> Result<Vec<PathBuf>, DebianError> {
    let keys = [
        "L",
        "Dir::Etc::sourcelist/f",
        "P",
        "Dir::Etc::sourceparts/d",
    ];
    let text = APT_CONFIG.run(&cache.path(APT), &[&["shell"], &keys[..]].concat())?;
    let text = String::from_utf8_lossy(&text);
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.map(|value| PathBuf::from(value.trim_matches('\'')))
    };
    let mut found: Vec<PathBuf> = value("L=").into_iter().collect();
    let folder = value("P=").and_then(|folder| fs::read_dir(folder).ok());
    let parts = folder.into_iter().flatten().flatten();
    found.extend(parts.map(|entry| entry.path()));
    let wanted = |path: &PathBuf| {
        let end = path.extension();
        end.is_some_and(|end| end == "list" || end == "sources")
    };
    found.retain(wanted);
    found.sort();
    Ok(found)
}

/// Whether a word of a sources file is one of these archives.
fn is_archive(word: &str, archives: &[String]) -> bool {
    let same = |archive: &String| archive.trim_end_matches('/') == word.trim_end_matches('/');
    archives.iter().any(same)
}

/// Lines of a `sources.list` (one archive each), asked for sources.
fn lines_for_sources(text: &str, archives: &[String]) -> String {
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim) {
        let Some((kind, rest)) = line.split_once(char::is_whitespace) else {
            continue;
        };
        let mut words = rest.split_ascii_whitespace();
        let asked = ["deb", "deb-src"].contains(&kind) && words.any(|w| is_archive(w, archives));
        let line = format!("deb-src {}\n", rest.trim());
        if asked && !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.concat()
}

/// Stanzas of a `.sources` file (deb822), asked for sources.
fn stanzas_for_sources(text: &str, archives: &[String]) -> String {
    let mut kept = String::new();
    let lines: Vec<&str> = text.lines().collect();
    for stanza in lines.split(|line| line.trim().is_empty()) {
        let uris = stanza.iter().find_map(|line| line.strip_prefix("URIs:"));
        let mut words = uris.unwrap_or_default().split_ascii_whitespace();
        if !words.any(|word| is_archive(word, archives)) {
            continue;
        }
        for line in stanza {
            let asked = line.starts_with("Types:");
            kept.push_str(if asked { "Types: deb-src" } else { line });
            kept.push('\n');
        }
        kept.push('\n');
    }
    kept
}

/// What `apt-get source --print-uris` lists: `'URI' name size digest` each.
fn read_files(text: &str) -> Option<Files> {
    let names: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with('\''))
        .filter_map(|line| line.split_ascii_whitespace().nth(1))
        .collect();
    let description = names.iter().find_map(|name| name.strip_suffix(".dsc"))?;
    let (_, version) = description.split_once('_')?;
    let is_upstream = |name: &&&str| {
        let (_, rest) = name.split_once('_').unwrap_or_default();
        rest.contains(".orig.tar.") && !rest.ends_with(".asc")
    };
    // A package of Debian's own has one archive and no patches.
    let is_native = |name: &&&str| name.contains(".tar.") && !name.contains(".debian.tar.");
    let archive = names.iter().find(is_upstream);
    let archive = archive.or_else(|| names.iter().find(is_native))?;
    Some(Files {
        version: version.to_owned(),
        archive: (*archive).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARCHIVES: &[&str] = &["http://deb/debian/", "http://deb/security"];

    fn archives() -> Vec<String> {
        ARCHIVES.iter().map(|&archive| archive.to_owned()).collect()
    }

    #[test]
    fn the_same_archives_are_asked_for_sources() {
        let text = "# deb http://deb/debian old main\ndeb [signed-by=/k] http://deb/debian b main\n\
                    deb-src [signed-by=/k] http://deb/debian b main\ndeb http://other b main\n";
        let expected = "deb-src [signed-by=/k] http://deb/debian b main\n";
        assert_eq!(lines_for_sources(text, &archives()), expected);
        let text = "Types: deb deb-src\n# mirror\nURIs: http://deb/security/\nSuites: b\n\n\n\
                    Types: deb\nURIs: http://other\nSuites: c\n";
        let expected = "Types: deb-src\n# mirror\nURIs: http://deb/security/\nSuites: b\n\n";
        assert_eq!(stanzas_for_sources(text, &archives()), expected);
    }

    #[test]
    fn upstreams_archive_and_debians_version_are_found() {
        let line = |name: &str| format!("'http://deb/pool/{name}' {name} 12 SHA256:00\n");
        let of = |names: &[&str]| {
            let text: String = names.iter().map(|name| line(name)).collect();
            read_files(&format!("Reading package lists...\n{text}"))
        };
        let expected = |version: &str, archive: &str| {
            let (version, archive) = (version.to_owned(), archive.to_owned());
            Some(Files { version, archive })
        };
        let names = [
            "lua5.4_5.4.4-3+deb12u1.dsc",
            "lua5.4_5.4.4.orig.tar.gz.asc",
            "lua5.4_5.4.4.orig.tar.gz",
            "lua5.4_5.4.4-3+deb12u1.debian.tar.xz",
        ];
        assert_eq!(of(&names), expected("5.4.4-3+deb12u1", names[2]));
        let native = ["dpkg_1.21.dsc", "dpkg_1.21.tar.xz"];
        assert_eq!(of(&native), expected("1.21", native[1]));
        assert_eq!(of(&[]), None);
        let files = of(&native).unwrap();
        for (request, fits) in [("dpkg", true), ("dpkg=1:1.21", true), ("dpkg=1", false)] {
            assert_eq!(files.are_of(request), fits, "{request}");
        }
    }
}
