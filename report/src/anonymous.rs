//! Results without names: for artifacts that are reviewed by people who must not know whose they are.
//!
//! Taken out are host and user names, paths of people and machines, addresses, and the commit, by
//! which a public repository is found. What an experiment does and gives stays: a package without
//! names is checked and run again like any other.

use std::fs;
use std::path::Path;

/// What stands for what was taken out.
const LEFT: &str = "withheld";

/// First parts of paths that lead to people's or machines' own places. Others, such as `/usr`, are
/// the same everywhere; experiments name them.
const OWN: [&str; 12] = [
    "data", "export", "home", "media", "mnt", "net", "nfs", "root", "scratch", "srv", "tmp",
    "Users",
];

/// Names that many hosts and users have; without them no text could be read.
const COMMON: [&str; 5] = ["root", "localhost", "user", "debian", "ubuntu"];

/// What to take out.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Host and user.
    words: Vec<String>,
    /// Beginnings of paths.
    places: Vec<String>,
}

impl Names {
    /// Those of this host, this user and a results folder.
    #[must_use]
    pub fn here(results: &Path) -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let users = ["USER", "LOGNAME", "SUDO_USER"].map(|name| std::env::var(name).ok());
        let home = std::env::var("HOME").ok();
        let current = std::env::current_dir().ok();
        let folder = results.canonicalize().ok();
        let first = |path: &Path| Some(path.components().nth(1)?.as_os_str().to_str()?.to_owned());
        let places = [current.as_deref(), folder.as_deref()]
            .into_iter()
            .flatten()
            .filter_map(first);
        let mut names = Self::new(
            host.iter()
                .chain(users.iter().flatten())
                .map(String::as_str),
        );
        names.places.extend(places);
        names
            .places
            .extend(home.as_deref().map(Path::new).and_then(first));
        names
    }

    /// These words, and what is always taken out.
    pub fn new<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let words = words.into_iter().map(str::trim);
        let telling = |word: &&str| word.len() > 2 && !COMMON.contains(word);
        Self {
            words: words.filter(telling).map(str::to_owned).collect(),
            places: OWN.map(str::to_owned).to_vec(),
        }
    }

    /// A text without them.
    #[must_use]
    pub fn taken_out(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find(is_part) {
            let (before, from) = rest.split_at(start);
            out.push_str(before);
            let end = from.find(|letter| !is_part(letter)).unwrap_or(from.len());
            let (token, after) = from.split_at(end);
            out.push_str(&self.token(token));
            rest = after;
        }
        out.push_str(rest);
        out
    }

    /// A stretch of letters without space or quotes.
    fn token(&self, token: &str) -> String {
        // A sentence's end is no part of what stands before it.
        let kept = token.trim_end_matches(['.', ':']);
        let end = &token[kept.len()..];
        if is_mail(kept) || is_address(kept) {
            return format!("{LEFT}{end}");
        }
        if let Some(start) = self.place(kept) {
            let (before, path) = kept.split_at(start);
            let name = path.rsplit('/').next().unwrap_or_default();
            // Right below the first part stand the names of people.
            return if path.matches('/').count() > 2 {
                format!("{before}{LEFT}/{}{end}", self.words_of(name))
            } else {
                format!("{before}{LEFT}{end}")
            };
        }
        self.words_of(token)
    }

    /// Where a path of somebody's begins.
    fn place(&self, token: &str) -> Option<usize> {
        let starts = token.match_indices('/').map(|(start, _)| start);
        let mut starts = starts.filter(|start| !token[..*start].ends_with(char::is_alphanumeric));
        starts.find(|start| {
            let first = token[start + 1..].split('/').next().unwrap_or_default();
            let more = token[start + 1..].contains('/');
            more && self.places.iter().any(|place| place == first)
        })
    }

    /// The token without names, where they stand alone.
    fn words_of(&self, token: &str) -> String {
        let mut token = token.to_owned();
        for word in &self.words {
            let mut from = 0;
            while let Some(found) = token[from..].find(word.as_str()) {
                let (start, end) = (from + found, from + found + word.len());
                let inside = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
                if inside(token[..start].chars().next_back()) || inside(token[end..].chars().next())
                {
                    from = end;
                } else {
                    token.replace_range(start..end, LEFT);
                    from = start + LEFT.len();
                }
            }
        }
        token
    }
}

fn is_part(letter: char) -> bool {
    letter.is_alphanumeric() || "/._-:@+~%".contains(letter)
}

fn is_mail(token: &str) -> bool {
    token.split_once('@').is_some_and(|(name, place)| {
        !name.is_empty() && place.contains('.') && !place.starts_with('.')
    })
}

/// An address of the internet, with a port or without, or of a network card; loopback says nothing.
fn is_address(token: &str) -> bool {
    let pairs: Vec<&str> = token.split(':').collect();
    let hex = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    if pairs.len() == 6 && pairs.iter().all(hex) {
        return true;
    }
    let host = if pairs.len() == 2 { pairs[0] } else { token };
    host.parse::<std::net::IpAddr>()
        .is_ok_and(|address| !address.is_loopback() && !address.is_unspecified())
}

/// `run.json` without its commit.
pub(crate) fn without_commit(text: &str) -> String {
    let Ok(mut run) = serde_json::from_str::<serde_json::Value>(text) else {
        return text.to_owned();
    };
    if let Some(id) = run.pointer_mut("/provenance/commit/id") {
        *id = LEFT.into();
    }
    format!("{run:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(text: &str) -> String {
        Names::new(["vega7", "alice", "root", "al"]).taken_out(text)
    }

    #[test]
    fn names_paths_and_addresses_go() {
        for (text, left) in [
            ("on vega7, by alice.", "on withheld, by withheld."),
            ("vega7.lab.example", "withheld.lab.example"),
            ("\"/home/alice/x/quick.yaml\"", "\"withheld/quick.yaml\""),
            ("--output=/mnt/big/out", "--output=withheld/out"),
            ("cd /home/bob; -o /tmp/bobs.", "cd withheld; -o withheld."),
            ("10.1.2.3:2024 and 192.168.0.9.", "withheld and withheld."),
            ("fe80::1:2 52:54:00:12:34:56", "withheld withheld"),
            ("alice@lab.example", "withheld"),
        ] {
            assert_eq!(out(text), left, "{text}");
        }
    }

    #[test]
    fn what_an_experiment_does_stays() {
        for text in [
            "cp -r /usr/src/bzip2 /build && make -C /build",
            "6.12.117+deb12-amd64, Linux 6.12.1, version 0.1.0",
            "2026-11-22T03:31:07.420964396Z, 12:34:56, run 1: all",
            "malice, alices, a/tmp/b, root's table, 127.0.0.1",
            "experiments/linux/pmake.yaml, results/runs, at-least: 99 %",
            "µ – … 100 %",
        ] {
            assert_eq!(out(text), text);
        }
    }
}
