//! The walk-throughs in `docs/architecture.md` name files and functions; they must exist.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;

#[test]
fn walk_throughs_name_functions_that_exist() {
    let text = fs::read_to_string("docs/architecture.md").unwrap();
    let mut steps = 0;
    for line in text.lines() {
        let Some((file, function)) = step(line) else {
            continue;
        };
        steps += 1;
        let code = fs::read_to_string(file)
            .unwrap_or_else(|error| panic!("docs/architecture.md names {file}: {error}"));
        let defined = [format!("fn {function}("), format!("fn {function}<")];
        assert!(
            defined.iter().any(|definition| code.contains(definition)),
            "docs/architecture.md names `{function}` in {file}, which has no such function"
        );
    }
    assert!(
        steps > 30,
        "only {steps} steps were found: has the form of the list changed?"
    );
}

/// The file and function of a line "- `file`: `function`".
fn step(line: &str) -> Option<(&str, &str)> {
    let rest = line.trim().strip_prefix("- `")?;
    let (file, rest) = rest.split_once("`: `")?;
    Some((file, rest.strip_suffix('`')?))
}
