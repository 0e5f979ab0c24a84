//! What can be measured, switched and run, each in one line: `mirrorball list metrics`, ...

use mirrorball_report::metrics::by_path;
use serde::Serialize;

use super::templates;
use crate::output::summary::METRICS;
use crate::spec::{MechanismSet, workloads};

/// One thing and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Word {
    /// Its name.
    pub name: String,
    /// Its unit, of what has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<&'static str>,
    /// Where it is found: `summary.json` or `samples.csv`, of figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<&'static str>,
    /// What it is.
    pub about: String,
}

/// The lists there are.
pub const LISTS: [&str; 6] = [
    "metrics",
    "mechanisms",
    "workloads",
    "templates",
    "papers",
    "figures",
];

/// What is built after, and where in the papers.
const PAPERS: [(&str, &str); 4] = [
    (
        "disco",
        "Bugnion, Devine, Rosenblum: Disco, SOSP 1997: copy-on-write disks, the virtual network, \
         the thin guest (sections 4 and 5)",
    ),
    (
        "esx",
        "Waldspurger: Memory Resource Management in VMware ESX Server, OSDI 2002: ballooning, \
         content-based sharing, idle memory tax (sections 3 to 6)",
    ),
    (
        "ksm",
        "Arcangeli, Eidus, Wright: Increasing memory density by using KSM, Linux Symposium 2009: \
         the baseline",
    ),
    (
        "crimes",
        "Heiser: Systems Benchmarking Crimes: what reports must not do",
    ),
];

/// Figures of papers that experiments make again.
const FIGURES: [(&str, &str); 7] = [
    (
        "disco-figure-6",
        "memory of a parallel make in 1, 2, 4 and 8 guests: experiments/disco/fig6-sharing.yaml, \
         experiments/linux/pmake.yaml; docs/figures/disco-figure-6.md",
    ),
    (
        "esx-figure-2",
        "work of a ballooned guest against one configured at that size: \
         experiments/esx/fig2-balloon.yaml; docs/figures/esx-figure-2.md",
    ),
    (
        "esx-figure-4",
        "pages shared and reclaimed among 1 to 10 identical guests: \
         experiments/esx/fig4-identical-vms.yaml; docs/figures/esx-figure-4.md",
    ),
    (
        "esx-figure-5",
        "pages saved among guests with ever less in common: \
         experiments/esx/fig5-mixed-guests.yaml; docs/figures/esx-figure-5.md",
    ),
    (
        "esx-figure-6",
        "active memory against its estimate: experiments/esx/fig6-active-sampling.yaml; \
         docs/figures/esx-figure-6.md",
    ),
    (
        "esx-figure-7",
        "memory of an idle and an active guest under the tax: experiments/esx/fig7-idle-tax.yaml; \
         docs/figures/esx-figure-7.md",
    ),
    (
        "esx-figure-8",
        "memory of guests whose demands rise and fall: experiments/esx/fig8-dynamic-reallocation.yaml; \
         docs/figures/esx-figure-8.md",
    ),
];

/// Columns of `samples.csv`.
const COLUMNS: [(&str, &str); 33] = [
    ("cell", "what ran"),
    ("run", "what ran"),
    ("time_seconds", "since the experiment began"),
    ("phase", "what ran"),
    ("vm", "`machine`, or the VM's number"),
    (
        "guest_physical_bytes",
        "memory that guests were told they have",
    ),
    ("touched_bytes", "pages that were ever used"),
    ("private_bytes", "pages of one guest only"),
    ("mapped_bytes", "pages that name a frame"),
    ("zero_bytes", "pages that are the zero page"),
    ("ballooned_bytes", "in guests' balloons"),
    ("swapped_bytes", "on swap"),
    ("target_bytes", "what the memory policy entitles it to"),
    ("active_bytes", "what it is thought to use"),
    ("working_set_bytes", "what the guest says it uses"),
    ("shared_bytes", "pages that share a frame, or are zero"),
    ("reclaimed_bytes", "shared less the frames behind it"),
    ("frames_bytes", "frames in use"),
    ("disk_bytes", "reclaimed by the copy-on-write disk"),
    ("network_bytes", "reclaimed by the virtual network"),
    ("content_bytes", "reclaimed by content scanning"),
    ("ksm_bytes", "reclaimed by KSM"),
    (
        "if_all_broke_bytes",
        "what would be needed if every shared page were written",
    ),
    ("overhead_bytes", "the pmap's own memory"),
    ("state", "the worst reclamation state since the row before"),
    ("guests_up", "VMs that run"),
    ("vmas", "mappings in use"),
    ("broken_pages", "shared pages that were written, so far"),
    ("hashed_pages", "by our scanner, so far"),
    ("vcpu_seconds", "CPU time so far"),
    ("device_seconds", "CPU time so far"),
    ("scanner_seconds", "CPU time so far"),
    ("ksmd_seconds", "CPU time so far"),
];

/// The words of a list; `None` if there is no such list.
#[must_use]
pub fn words(list: &str) -> Option<Vec<Word>> {
    Some(match list {
        "metrics" => metrics().chain(columns()).collect(),
        "mechanisms" => MechanismSet::described().into_iter().map(plain).collect(),
        "workloads" => workloads().into_iter().map(plain).collect(),
        "templates" => {
            let all = templates::ALL.iter();
            all.map(|template| plain((template.name, template.purpose)))
                .collect()
        }
        "papers" => PAPERS.into_iter().map(plain).collect(),
        "figures" => FIGURES.into_iter().map(plain).collect(),
        _ => return None,
    })
}

fn plain((name, about): (&'static str, &'static str)) -> Word {
    Word {
        name: name.to_owned(),
        unit: None,
        file: None,
        about: about.to_owned(),
    }
}

fn metrics() -> impl Iterator<Item = Word> {
    METRICS.iter().map(|path| Word {
        name: (*path).to_owned(),
        unit: Some(unit(path)),
        file: Some("summary.json"),
        about: by_path(path).map_or_else(
            || path.replace(['.', '_'], " "),
            |metric| metric.name.trim_start_matches("… ").to_owned(),
        ),
    })
}

fn columns() -> impl Iterator<Item = Word> {
    COLUMNS.iter().map(|(name, about)| Word {
        unit: Some(unit(name)),
        file: Some("samples.csv"),
        ..plain((name, about))
    })
}

/// The unit of a figure, by its name.
fn unit(name: &str) -> &'static str {
    let bytes = [
        "memory.",
        "by_mechanism.",
        "by_category.",
        "accounting.pmap",
        "accounting.kernel",
    ];
    let is_bytes = bytes.iter().any(|start| name.starts_with(start));
    if is_bytes || name.ends_with("_bytes") || name.ends_with(".bytes") || name.contains("_memory_")
    {
        "bytes"
    } else if name.contains("seconds") {
        "seconds"
    } else if name.ends_with("_share") || name.ends_with(".gap") {
        "part of 1"
    } else if ["cell", "phase", "vm"].contains(&name) {
        "text"
    } else {
        "count"
    }
}

/// For people.
#[must_use]
pub fn text(words: &[Word]) -> String {
    let width = words.iter().map(|word| word.name.len()).max().unwrap_or(0);
    let line = |word: &Word| {
        let unit = word
            .unit
            .map_or(String::new(), |unit| format!("{unit:<10} "));
        let file = word
            .file
            .map_or(String::new(), |file| format!("{file:<12}  "));
        format!("{:width$}  {file}{unit}{}\n", word.name, word.about)
    };
    words.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::{Sample, SampleWriter};

    #[test]
    fn every_column_and_every_metric_is_listed_with_its_unit() {
        let words = words("metrics").unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = SampleWriter::new(file.path().into(), file.reopen().unwrap());
        writer.write(&[Sample::default()]).unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        for column in text.lines().next().unwrap().split(',') {
            let known = |word: &&Word| word.name == column && word.file == Some("samples.csv");
            assert!(words.iter().any(|word| known(&word)), "{column}");
        }
        assert_eq!(words.len(), METRICS.len() + COLUMNS.len());
        let unit = |name: &str| words.iter().find(|word| word.name == name).unwrap().unit;
        assert_eq!(unit("memory.touched"), Some("bytes"));
        assert_eq!(unit("start.host_memory_per_guest"), Some("bytes"));
        assert_eq!(unit("sharing.hold_p99_seconds"), Some("seconds"));
        assert_eq!(unit("accounting.gap"), Some("part of 1"));
    }

    #[test]
    fn all_lists_have_words_and_there_are_no_others() {
        for list in LISTS {
            let words = words(list).unwrap();
            assert!(words.len() > 3 && words.iter().all(|word| !word.about.is_empty()));
            assert!(super::text(&words).lines().count() == words.len());
        }
        assert_eq!(words("paper"), None);
    }

    #[test]
    fn every_figure_names_experiments_and_pages_that_are_there() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for figure in words("figures").unwrap() {
            let words = figure.about.split([' ', ',', ';', ':']);
            let mut files = words.filter(|word| word.ends_with(".yaml") || word.ends_with(".md"));
            let all = files.by_ref().all(|file| root.join(file).exists());
            assert!(all && figure.about.contains(".yaml"), "{}", figure.about);
        }
    }
}
