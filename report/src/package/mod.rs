//! A package: everything that a reader needs to check a result, in one archive.
//!
//! It is the results folder, the report, tables, what the images are made of and what the binary
//! was, and a list of digests that `sha256sum -c` reads. Equal results make equal archives: sorted
//! names, no times, no owners.

mod archive;
mod artifact;
mod check;

pub use archive::{Entries, PackageError, read, write};
pub use check::{Check, check};

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::anonymous::{Names, without_commit};
use crate::html::{self, Placing};
use crate::results::Results;

/// The list of digests.
pub const MANIFEST: &str = "MANIFEST.sha256";

/// What the package is, for scripts.
pub const DESCRIPTION: &str = "package.json";

/// Files that are made for the package, or of no use in it.
const MADE: [&str; 6] = [
    "report.html",
    "figures",
    "tables",
    "ARTIFACT.md",
    DESCRIPTION,
    MANIFEST,
];

/// The files of a package of a results folder.
///
/// # Errors
/// The folder can't be read, or its report can't be made.
pub fn collect(folder: &Path) -> Result<Entries, PackageError> {
    let entries = given(folder)?;
    let results = Results::load(folder)?;
    whole(entries, &results)
}

/// The same without the names of host and user, their paths and addresses, and the commit.
///
/// # Errors
/// As [`collect`]; or there is no place for the results without names.
pub fn collect_anonymous(folder: &Path, names: &Names) -> Result<Entries, PackageError> {
    let place = tempfile::tempdir().map_err(|error| PackageError::file(folder, error))?;
    let entries = without_names(folder, names, place.path())?;
    whole(entries, &Results::load(place.path())?)
}

/// Writes a results folder without names to another, empty one; what it holds.
///
/// # Errors
/// A folder can't be read or written.
pub fn without_names(folder: &Path, names: &Names, to: &Path) -> Result<Entries, PackageError> {
    let entries = given(folder)?.into_iter().map(|(name, bytes)| {
        // What is no text, or a table of numbers of its own form, names nobody.
        let text = match String::from_utf8(bytes) {
            Err(error) => return (name, error.into_bytes()),
            Ok(text) if name.ends_with(".hlog") => return (name, text.into_bytes()),
            Ok(text) if name == "run.json" => without_commit(&text),
            Ok(text) => text,
        };
        (names.taken_out(&name), names.taken_out(&text).into_bytes())
    });
    let entries: Entries = entries.collect();
    unpack(&entries, to)?;
    Ok(entries)
}

/// Writes files to a folder.
fn unpack(entries: &Entries, folder: &Path) -> Result<(), PackageError> {
    for (name, bytes) in entries {
        let path = folder.join(name);
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(folder))?;
            fs::write(&path, bytes)
        };
        write().map_err(|error| PackageError::file(&path, error))?;
    }
    Ok(())
}

/// The files of a results folder that are not made of others.
fn given(folder: &Path) -> Result<Entries, PackageError> {
    let mut entries = Entries::new();
    add_folder(&mut entries, folder, "")?;
    entries.retain(|name, _| {
        let first = name.split('/').next().unwrap_or_default();
        !MADE.contains(&first) && !name.contains(".unfinished-")
    });
    Ok(entries)
}

/// A package of these files.
fn whole(mut entries: Entries, results: &Results) -> Result<Entries, PackageError> {
    derive(&mut entries, results)?;
    entries.insert(DESCRIPTION.into(), description(results).into_bytes());
    entries.insert("PACKAGE.md".into(), readme(results).into_bytes());
    entries.insert(
        "ARTIFACT.md".into(),
        artifact::artifact(results).into_bytes(),
    );
    let manifest = manifest(&entries);
    entries.insert(MANIFEST.into(), manifest.into_bytes());
    Ok(entries)
}

/// Adds all that is made of results: the report, its figures, the tables.
fn derive(entries: &mut Entries, results: &Results) -> Result<(), PackageError> {
    let place = tempfile::tempdir().map_err(|error| PackageError::file(Path::new("."), error))?;
    // The page links to files beside it, as it lies beside them in the package.
    let beside = Placing {
        beside: true,
        ..Placing::default()
    };
    html::write(std::slice::from_ref(results), place.path(), beside)?;
    add_folder(entries, place.path(), "")?;
    Ok(())
}

/// Adds the files below a folder by their names in it.
fn add_folder(entries: &mut Entries, folder: &Path, prefix: &str) -> Result<(), PackageError> {
    let error = |error| PackageError::file(folder, error);
    for entry in fs::read_dir(folder).map_err(error)? {
        let entry = entry.map_err(error)?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().map_err(error)?;
        if kind.is_dir() {
            add_folder(entries, &entry.path(), &format!("{name}/"))?;
        } else if kind.is_file() {
            let bytes = fs::read(entry.path());
            let bytes = bytes.map_err(|error| PackageError::file(&entry.path(), error))?;
            entries.insert(name, bytes);
        }
    }
    Ok(())
}

fn description(results: &Results) -> String {
    let conditions = &results.run.conditions;
    let from = &results.run.provenance;
    let images: serde_json::Map<String, Value> = results
        .run
        .images
        .iter()
        .map(|(id, image)| {
            let recipe = conditions["experiment"]["images"][id.as_str()].clone();
            let about = json!({
                "recipe": recipe, "sha256": image["digest"], "bytes": image["bytes"],
            });
            (id.clone(), about)
        })
        .collect();
    let about = json!({
        "schema_version": 1,
        "name": results.summary.name,
        "title": results.title(),
        "verdict": results.summary.verdict,
        "packaged_by": env!("CARGO_PKG_VERSION"),
        "binary": {
            "version": from["version"], "commit": from["commit"],
            "sha256": from["binary_digest"], "profile": from["profile"],
        },
        "images": images,
        "seed": conditions["experiment"]["seed"],
    });
    format!("{about:#}\n")
}

fn readme(results: &Results) -> String {
    let mut text = format!(
        "# {}\n\nVerdict: **{}**.\n\n",
        results.title(),
        results.summary.verdict.word()
    );
    if let Some(question) = &results.run.experiment.question {
        text.push_str(&format!("{question}\n\n"));
    }
    text.push_str("## Claims\n\n| claim | cell | verdict |\n|---|---|---|\n");
    for cell in &results.summary.cells {
        for outcome in cell.expect.iter().filter(|o| o.is_told_of(&cell.id)) {
            let all = &results.run.experiment.expect;
            let declared = all.iter().find(|expectation| expectation.id == outcome.id);
            let claim = declared.and_then(|expectation| expectation.claim.as_deref());
            let claim = claim.unwrap_or(&outcome.id).replace('|', "/");
            let word = outcome.verdict.word();
            let whose = outcome.whose(&cell.id);
            text.push_str(&format!("| {claim} | {whose} | {word} |\n"));
        }
    }
    text.push_str(
        "\n## Check it\n\n\
         * `sha256sum -c MANIFEST.sha256` in the unpacked folder: nothing was changed.\n\
         * `mirrorball verify PACKAGE`: the same, and every table follows from the runs; no KVM.\n\
         * `mirrorball verify --rerun PACKAGE`: runs `experiment.yaml` again and compares.\n\n\
         `ARTIFACT.md` has claims, cost and command; `report.html` is the report, `tables/cells.csv` every figure with its interval, \
         `figures/` every figure with its values, `package.json` what binary and images were, \
         `README.txt` what the other files are. Images are not in the package; their recipes and \
         digests are.\n",
    );
    text
}

/// The list of digests of all files but itself, as `sha256sum` writes it.
fn manifest(entries: &Entries) -> String {
    let files = entries.iter().filter(|(name, _)| *name != MANIFEST);
    files
        .map(|(name, bytes)| format!("{}  {name}\n", digest(bytes)))
        .collect()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests;
