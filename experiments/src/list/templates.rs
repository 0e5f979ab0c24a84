//! Experiment files to begin with.

use serde::Serialize;

/// A file to begin with.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Template {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    #[serde(skip)]
    text: &'static str,
}

/// All of them.
pub const ALL: [Template; 4] = [
    Template {
        name: "minimal",
        purpose: "four guests build the same sources, with and without sharing",
        text: include_str!("../../templates/minimal.yaml"),
    },
    Template {
        name: "sweep",
        purpose: "guests and scan interval change from cell to cell, with repeats",
        text: include_str!("../../templates/sweep.yaml"),
    },
    Template {
        name: "ksm",
        purpose: "our scanner beside Linux's KSM; needs root",
        text: include_str!("../../templates/ksm.yaml"),
    },
    Template {
        name: "linux",
        purpose: "two Linux guests; needs a hardware KVM or --host emulated",
        text: include_str!("../../templates/linux.yaml"),
    },
];

/// A template by its name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Template> {
    ALL.iter().find(|template| template.name == name)
}

/// Its text for a place of the user's own: without the schema's path in the repository.
#[must_use]
pub fn text(template: &Template) -> String {
    let lines = template.text.lines();
    let lines = lines.filter(|line| !line.starts_with("# yaml-language-server"));
    lines.map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::spec::{HostFacts, check_text};
    use super::*;

    #[test]
    fn every_template_is_valid_and_named_as_its_file() {
        let host = HostFacts {
            memory: u64::MAX,
            results: Some(std::env::temp_dir()),
        };
        for template in &ALL {
            let text = text(template);
            let loaded = check_text(template.name, text, std::path::Path::new("."), &host);
            let loaded = loaded.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(loaded.experiment.name, template.name);
            assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        }
    }
}
