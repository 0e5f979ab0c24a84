//! Linux guests in the experiment file: kernel, root file system, commands.
//!
//! Names only: packages and images are `mirrorball-debian`'s, booting is the monitor's.

use std::path::PathBuf;

use serde::Serialize;

use super::describe::{Field, Map, Shape};
use super::parse::Name;
use super::reader::{At, Fields, FromMap, FromNode, Word, from_map};
use super::text::{Node, Value};
use super::units::{Size, Time};

/// A Linux guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LinuxSpec {
    /// A series of Debian's cloud kernels (`6.12`), the name of a kernel package, or a path (with a
    /// `/`) of a bzImage or of a folder with `boot/` and `lib/modules/`.
    pub kernel: String,
    /// Version of that package; the newest where not given.
    pub version: Option<String>,
    /// Its root file system.
    pub root: RootSpec,
    /// Shell commands, run one after the other when all guests are up.
    pub run: Vec<String>,
    /// Kernel parameters after the monitor's own.
    pub command_line: String,
    /// Kernel modules that are loaded besides those which every guest needs.
    pub modules: Vec<String>,
    /// How long it may take to boot; then it is ended, and the others go on.
    pub boot_timeout: Option<Time>,
    /// How long each command may take.
    pub command_timeout: Option<Time>,
    /// Numbers that its commands print.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<PrintedMetric>,
}

/// A number that a guest's commands print, such as a benchmark's throughput.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrintedMetric {
    /// Its name: `groups.<group>.printed.<id>`.
    pub id: String,
    /// What is printed just before it.
    #[serde(skip)]
    before: String,
    /// What is printed just after it.
    #[serde(skip)]
    after: String,
    /// Both, with `{}` for the number.
    pub text: String,
}

/// Stands for the number in the text of a [`PrintedMetric`].
const NUMBER: &str = "{}";

impl PrintedMetric {
    /// Such a number; `None` where the text has no place for it, or nothing before it.
    #[must_use]
    pub fn new(id: &str, text: &str) -> Option<Self> {
        let (before, after) = text.split_once(NUMBER)?;
        let is_plain = !before.trim().is_empty() && !after.contains(NUMBER);
        is_plain.then(|| Self {
            id: id.to_owned(),
            before: before.trim_end().to_owned(),
            after: after.to_owned(),
            text: text.to_owned(),
        })
    }

    /// The last such number in what a command printed.
    #[must_use]
    pub fn find(&self, printed: &str) -> Option<f64> {
        let found = printed.rmatch_indices(&self.before);
        let mut numbers = found.filter_map(|(at, before)| {
            let rest = printed[at + before.len()..].trim_start_matches([' ', '\t']);
            let is_number =
                |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E');
            let end = rest.find(|c: char| !is_number(c)).unwrap_or(rest.len());
            let number = rest[..end].parse::<f64>().ok()?;
            (number.is_finite() && rest[end..].starts_with(&self.after)).then_some(number)
        });
        numbers.next()
    }
}

/// The root file system of a Linux guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootSpec {
    /// None: commands run in the initramfs.
    None,
    /// A small one with busybox on a disk.
    Busybox,
    /// Debian packages and what they depend on, on a disk.
    Packages {
        /// Their names.
        packages: Vec<String>,
        /// Source packages, unpacked below `/usr/src`.
        sources: Vec<String>,
        /// Size of the file system; by default what is in it and some room.
        size: Option<Size>,
    },
    /// The user's own ext4 image.
    Image(PathBuf),
}

from_map!(LinuxSpec, Packages, PrintedMetric);

impl FromMap for LinuxSpec {
    fn map() -> Map {
        let fields = vec![
            Field::needed::<String>(
                "kernel",
                "a series of Debian's cloud kernels (`6.12`), the name of a kernel package, or a path (with a `/`) of a bzImage or of a folder with `boot/` and `lib/modules/`",
            ),
            Field::maybe::<String>("version", "the newest", "version of that package"),
            Field::or::<RootSpec>("root", "busybox", "the root file system"),
            Field::needed::<Vec<String>>(
                "run",
                "shell commands, run one after the other when all guests are up",
            ),
            Field::maybe::<String>(
                "command-line",
                "none",
                "kernel parameters after the monitor's own",
            ),
            Field::or::<Vec<String>>(
                "modules",
                "[]",
                "kernel modules that are loaded besides those which every guest needs, with what they depend on; a bzImage must have them built in",
            ),
            Field::maybe::<Time>(
                "boot-timeout",
                "the phase's timeout",
                "how long it may take to boot; then it is ended, and the others go on",
            ),
            Field::maybe::<Time>(
                "command-timeout",
                "the phase's timeout",
                "how long each command may take",
            ),
            Field::or::<Vec<PrintedMetric>>("metrics", "[]", "numbers that its commands print"),
        ];
        let about = "What a Linux guest boots and does ([linux-guests.md](linux-guests.md))";
        Map::new("linux", about, fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let (kernel, run) = (fields.get("kernel"), fields.get("run"));
        let (version, root) = (fields.get("version"), fields.get("root"));
        let (command_line, modules) = (fields.get("command-line"), fields.get("modules"));
        Some(Self {
            kernel: kernel?,
            version,
            root: root?,
            run: run?,
            command_line: command_line.unwrap_or_default(),
            modules: modules?,
            boot_timeout: fields.get("boot-timeout"),
            command_timeout: fields.get("command-timeout"),
            metrics: fields.get("metrics")?,
        })
    }
}

impl FromMap for PrintedMetric {
    fn map() -> Map {
        let fields = vec![
            Field::needed::<Name>("id", "unique; its path is `groups.<group>.printed.<id>`"),
            Field::needed::<String>(
                "text",
                "what is printed, with `{}` for the number: `Throughput {} MB/sec`; the last one counts, the mean of the group's guests",
            ),
        ];
        let about = "A number that the commands of a Linux guest print";
        Map::new("printed-metric", about, fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let (id, text) = (fields.get::<Name>("id"), fields.get::<String>("text")?);
        let made = Self::new(&id?.0, &text);
        if let (None, Some((at, _))) = (&made, fields.node("text")) {
            let problem = at.problem("where the number stands is not said");
            return at.report(problem.expected("some text with one `{}` after it"));
        }
        made
    }
}

/// A root file system that is known by a word.
#[derive(Clone, Copy)]
enum Known {
    None,
    Busybox,
}

impl Word for Known {
    const WORDS: &'static [(&'static str, Self, &'static str)] = &[
        ("none", Self::None, "commands run in the initramfs"),
        (
            "busybox",
            Self::Busybox,
            "a small one with busybox on a disk",
        ),
    ];
}

/// A root file system that is made, or given.
struct Packages(RootSpec);

impl FromMap for Packages {
    fn map() -> Map {
        let fields = vec![
            Field::maybe::<Vec<String>>(
                "packages",
                "an `image`",
                "Debian packages; what they depend on comes along",
            ),
            Field::or::<Vec<String>>(
                "sources",
                "[]",
                "with `packages` only: source packages, unpacked below `/usr/src`",
            ),
            Field::maybe::<Size>(
                "size",
                "what is in it and some room",
                "with `packages` only: size of the file system",
            ),
            Field::maybe::<String>("image", "`packages`", "an ext4 image of your own"),
        ];
        let about = "The root file system of a Linux guest";
        Map::new("root", about, fields).one_of(&["packages", "image"])
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let (size, image) = (fields.get("size"), fields.get::<String>("image"));
        for name in ["size", "sources"] {
            if let (Some((at, _)), false) = (fields.node(name), fields.has("packages")) {
                let problem = at.problem(format!("`{name}` is for `packages` only"));
                return at.report(problem.expected(format!("no `{name}`")));
            }
        }
        let sources = fields.get("sources")?;
        let packages = fields.get("packages");
        let packages = packages.map(|packages| RootSpec::Packages {
            packages,
            sources,
            size,
        });
        let image = image.map(|image| RootSpec::Image(image.into()));
        packages.or(image).map(Self)
    }
}

impl FromNode for RootSpec {
    fn shape() -> Shape {
        Shape::Either(vec![Known::shape(), Packages::shape()])
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        if let Value::Map(_) = node.value {
            return Packages::from_node(at, node).map(|packages| packages.0);
        }
        Known::from_node(at, node).map(|known| match known {
            Known::None => Self::None,
            Known::Busybox => Self::Busybox,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_in_its_place_is_found() {
        let throughput = PrintedMetric::new("throughput", "Throughput {} MB/sec").unwrap();
        let printed = "Throughput 1.5 MB/sec\nThroughput 12.25 MB/sec  40 clients\nThroughput x MB/sec\n\
                       Throughput 3 KB/sec\n";
        assert_eq!(throughput.find(printed), Some(12.25));
        assert_eq!(throughput.find("Throughput"), None);
        let free = PrintedMetric::new("free", "MemFree: {} kB").unwrap();
        assert_eq!(free.find("MemFree:\t  70012 kB\n"), Some(70012.0));
        assert_eq!(free.find("MemFree: 1e999 kB"), None);
    }

    #[test]
    fn a_text_without_one_place_for_a_number_is_refused() {
        for text in ["Throughput", "{}", " {} MB", "a {} b {}"] {
            assert_eq!(PrintedMetric::new("x", text), None, "{text}");
        }
    }
}
