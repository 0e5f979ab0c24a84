//! Writes the page and the files of its figures.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};

use thiserror::Error;

use super::{Part, page};
use crate::figure::{self, Figure};
use crate::results::{Results, hgrm};
use crate::tables;

/// A report that could not be written.
#[derive(Debug, Error)]
pub enum ReportError {
    /// A file can't be written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A figure can't be drawn, or the page can't be filled in.
    #[error("{what}: {reason}")]
    Drawing {
        /// Which.
        what: String,
        /// Why.
        reason: String,
    },
}

/// How a page lies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Placing {
    /// It will lie in its results folder, wherever it is written now.
    pub beside: bool,
    /// Nothing is written but the page, and it names no figures' files and no tables.
    pub page_only: bool,
}

/// What was written.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Written {
    /// The page.
    pub page: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// The figures' files without their endings; each is there as SVG, PNG, CSV and for LaTeX.
    pub figures: Vec<PathBuf>,
    /// Tables and distributions of latencies.
    pub tables: Vec<PathBuf>,
}

/// Writes `report.html`, `figures/` and `tables/` for these results to a folder.
///
/// # Errors
/// A file can't be written.
pub fn write(all: &[Results], folder: &Path, placing: Placing) -> Result<Written, ReportError> {
    let figures: Vec<Vec<Figure>> = all
        .iter()
        .enumerate()
        .map(|(index, results)| figures_of(index, results))
        .collect();
    let (mut written, mut tables) = (Vec::new(), Vec::new());
    let mut parts = Vec::new();
    for (index, (results, figures)) in all.iter().zip(&figures).enumerate() {
        // One experiment's figures have plain names; those of several are told apart.
        let prefix = match all.len() {
            1 => "figures/".to_owned(),
            _ => format!("figures/{}-{}-", index + 1, results.summary.name),
        };
        let beside = prefix.replacen("figures/", "tables/", 1);
        if !placing.page_only {
            tables.extend(save_tables(folder, &beside, results)?);
            for figure in figures {
                written.push(save(folder, &format!("{prefix}{}", figure.id), figure)?);
            }
        }
        parts.push(Part {
            results,
            figures,
            folder: match placing.beside {
                true => String::new(),
                false => relative(folder, &results.path),
            },
            drawn: (!placing.page_only).then_some(prefix),
            tables: (!placing.page_only).then_some(beside),
        });
    }
    let html = page(&parts).map_err(|error| ReportError::Drawing {
        what: "report.html".to_owned(),
        reason: error.to_string(),
    })?;
    let page = folder.join("report.html");
    whole(&page, html.as_bytes())?;
    Ok(Written {
        page,
        bytes: html.len() as u64,
        figures: written,
        tables,
    })
}

/// The tables of results, and the distributions of their latencies.
fn save_tables(
    folder: &Path,
    prefix: &str,
    results: &Results,
) -> Result<Vec<PathBuf>, ReportError> {
    let tables = tables::all(results).into_iter();
    let tables = tables.map(|(name, text)| (format!("{prefix}{name}"), text));
    let distributions = results.histograms.iter().flat_map(|(tag, cells)| {
        let name = move |cell: &String| format!("{prefix}latency-{tag}-{cell}.hgrm");
        cells
            .iter()
            .map(move |(cell, values)| (name(cell), hgrm(values)))
    });
    let mut written = Vec::new();
    for (name, text) in tables.chain(distributions) {
        let path = folder.join(name);
        whole(&path, text.as_bytes())?;
        written.push(path);
    }
    Ok(written)
}

/// The figures of one of several results, with ids of their own.
fn figures_of(index: usize, results: &Results) -> Vec<Figure> {
    let mut figures = figure::all(results);
    for panel in figures.iter_mut().flat_map(|figure| &mut figure.panels) {
        let scope = format!("e{}-", index + 1);
        panel.svg = panel
            .svg
            .replace(" id=\"", &format!(" id=\"{scope}clip-"))
            .replace("url(#", &format!("url(#{scope}clip-"));
    }
    figures
}

fn save(folder: &Path, name: &str, figure: &Figure) -> Result<PathBuf, ReportError> {
    let stem = folder.join(name);
    let png = figure::png(&figure.file).map_err(|reason| ReportError::Drawing {
        what: figure.id.clone(),
        reason,
    })?;
    let ending = |ending| PathBuf::from(format!("{}.{ending}", stem.display()));
    whole(&ending("svg"), figure.file.as_bytes())?;
    whole(&ending("png"), &png)?;
    whole(&ending("csv"), figure.data.as_bytes())?;
    whole(&ending("tex"), figure.tex.as_bytes())?;
    Ok(stem)
}

/// Writes a file so that it is whole or as it was before.
pub(crate) fn whole(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    let attempt = || -> io::Result<()> {
        let parent = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent)?;
        let mut file = tempfile::Builder::new()
            .prefix(".unfinished-")
            .tempfile_in(parent)?;
        file.write_all(bytes)?;
        let file = file.persist(path).map_err(|error| error.error)?;
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
    };
    attempt().map_err(|error| ReportError::File {
        path: path.to_owned(),
        error,
    })
}

/// The way from one folder to another, with a `/` at its end; empty for the same folder.
fn relative(from: &Path, to: &Path) -> String {
    let _ = fs::create_dir_all(from);
    let (Ok(from), Ok(to)) = (from.canonicalize(), to.canonicalize()) else {
        return format!("{}/", to.display());
    };
    let (from, to): (Vec<_>, Vec<_>) = (from.components().collect(), to.components().collect());
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = from[common..].iter().map(|_| "../".to_owned());
    let down = to[common..].iter().map(|component| match component {
        Component::Normal(name) => format!("{}/", name.to_string_lossy()),
        _ => String::new(),
    });
    up.chain(down).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_the_results() {
        let place = tempfile::tempdir().unwrap();
        let (a, b) = (place.path().join("a/x"), place.path().join("b"));
        fs::create_dir_all(&b).unwrap();
        assert_eq!(relative(&a, &b), "../../b/");
        assert_eq!(relative(&b, &b), "");
    }
}
