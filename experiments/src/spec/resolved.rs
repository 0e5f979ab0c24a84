//! An experiment file with everything in it that it leaves to defaults, and where each value came
//! from. It is written from the descriptions that the reader reads by, and is an experiment file.

use std::fmt::Write as _;

use super::describe::{Absent, Field, Map, Shape};
use super::diagnostic::Mark;
use super::reader::FromNode;
use super::setting::Setting;
use super::text::{self, Key, Node, Value};
use super::{Experiment, Loaded};

/// Where values that nobody wrote stand: no line of a file, and no setting.
const DEFAULT: Mark = Mark {
    line: 0,
    column: 0,
    length: 0,
};

/// The file of an experiment, resolved.
#[must_use]
pub fn resolved(loaded: &Loaded) -> String {
    let Ok(mut tree) = text::parse(&loaded.text) else {
        return loaded.text.clone();
    };
    for (number, setting) in loaded.settings.iter().enumerate() {
        // It was applied once, when the file was loaded.
        if let Ok(setting) = Setting::parse(setting, number) {
            let _ = setting.apply(&mut tree);
        }
    }
    fill(&mut tree, &Experiment::shape());
    let mut out = String::new();
    write_map(&mut out, &tree, 0, false);
    out
}

/// Adds what is not there and has a default.
fn fill(node: &mut Node, shape: &Shape) {
    match shape {
        Shape::Map(map) => fill_map(node, map),
        Shape::Tagged { tag, maps } => {
            let word = node.field(tag).map(Node::plain);
            let word = word.as_ref().and_then(|word| word.as_str());
            let of_word = |map: &&Map| map.name.split(' ').next_back() == word;
            if let Some(map) = maps.iter().find(of_word) {
                fill_map(node, map);
            }
        }
        Shape::List(item) => {
            if let Value::List(items) = &mut node.value {
                if let Shape::Tagged { tag: "id", maps } = &**item {
                    add_phases(items, maps);
                }
                items.iter_mut().for_each(|node| fill(node, item));
            }
        }
        Shape::ById(item) => {
            if let Value::Map(entries) = &mut node.value {
                entries.iter_mut().for_each(|(_, node)| fill(node, item));
            }
        }
        Shape::Either(shapes) => {
            let fits = |shape: &&Shape| {
                matches!(
                    (&node.value, shape),
                    (Value::Map(_), Shape::Map(_)) | (Value::List(_), Shape::List(_))
                )
            };
            if let Some(shape) = shapes.iter().find(fits) {
                fill(node, shape);
            }
        }
        _ => {}
    }
}

fn fill_map(node: &mut Node, map: &Map) {
    let Value::Map(entries) = &mut node.value else {
        return;
    };
    for field in &map.fields {
        let shape = (field.shape)();
        if let Some((_, node)) = entries.iter_mut().find(|(key, _)| key.name == field.name) {
            fill(node, &shape);
        } else if let Some(mut node) = default(field, map) {
            fill(&mut node, &shape);
            entries.push((key(field.name), node));
        }
    }
    // In the order of the reference; what is not in it (a merged anchor) stays behind.
    let place = |name: &str| map.fields.iter().position(|field| field.name == name);
    entries.sort_by_key(|(key, _)| place(&key.name).unwrap_or(usize::MAX));
    entries.dedup_by(|later, earlier| later.0.name == earlier.0.name);
}

/// What is read where a field is not there. A limit of an image is refused beside other sources.
fn default(field: &Field, map: &Map) -> Option<Node> {
    let Absent::Reads(text) = field.absent else {
        return None;
    };
    if map.name == "image" {
        return None;
    }
    let mut node = text::parse(text).ok()?;
    node.mark_again(&|_| DEFAULT);
    Some(node)
}

/// Phases that the file leaves out.
fn add_phases(items: &mut Vec<Node>, maps: &[Map]) {
    for (place, map) in maps.iter().enumerate() {
        let word = map.name.split(' ').next_back().unwrap_or_default();
        let is_it = |item: &Node| item.field("id").is_some_and(|id| id.plain() == word);
        if items.iter().any(is_it) {
            continue;
        }
        let id = Node {
            value: Value::Text(word.to_owned()),
            mark: DEFAULT,
        };
        let item = Node {
            value: Value::Map(vec![(key("id"), id)]),
            mark: DEFAULT,
        };
        items.insert(place.min(items.len()), item);
    }
}

fn key(name: &str) -> Key {
    Key {
        name: name.to_owned(),
        mark: DEFAULT,
    }
}

/// Where a value came from.
fn origin(mark: Mark) -> String {
    match (mark, mark.setting()) {
        (DEFAULT, _) => "default".to_owned(),
        (_, Some(_)) => "--set".to_owned(),
        (Mark { line, .. }, None) => format!("line {line}"),
    }
}

/// The fields of a map, one in each line; the first in the line that was begun, if one was.
fn write_map(out: &mut String, node: &Node, depth: usize, begun: bool) {
    let Value::Map(entries) = &node.value else {
        return;
    };
    for (index, (key, value)) in entries.iter().enumerate() {
        let indent = if begun && index == 0 { 0 } else { depth };
        let _ = write!(out, "{:indent$}{}:", "", text_of(&key.name));
        write_value(out, value, depth);
    }
}

/// A value behind its key.
fn write_value(out: &mut String, node: &Node, depth: usize) {
    match &node.value {
        Value::Map(entries) if !entries.is_empty() && !is_flat(node) => {
            out.push('\n');
            write_map(out, node, depth + 2, false);
        }
        Value::List(items) if !items.is_empty() && !is_flat(node) => {
            out.push('\n');
            for item in items {
                let _ = write!(out, "{:depth$}  - ", "");
                match &item.value {
                    Value::Map(entries) if !entries.is_empty() => {
                        write_map(out, item, depth + 4, true);
                    }
                    _ => {
                        let _ = writeln!(out, "{}  # {}", flow(item), origin(item.mark));
                    }
                }
            }
        }
        _ => {
            let _ = writeln!(out, " {}  # {}", flow(node), origin(node.mark));
        }
    }
}

/// Whether a value is short enough for one line, and all of it came from one place.
fn is_flat(node: &Node) -> bool {
    fn below(node: &Node, mark: Mark) -> bool {
        let same = origin(node.mark) == origin(mark);
        same && match &node.value {
            Value::List(items) => items.iter().all(|item| below(item, mark)),
            Value::Map(entries) => entries.iter().all(|(_, node)| below(node, mark)),
            _ => true,
        }
    }
    below(node, node.mark) && flow(node).len() < 60
}

/// A value on one line.
fn flow(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Text(text) => text_of(text),
        Value::List(items) => {
            let items = items.iter().map(flow).collect::<Vec<_>>();
            format!("[{}]", items.join(", "))
        }
        Value::Map(entries) => {
            let entries = entries.iter();
            let entries =
                entries.map(|(key, node)| format!("{}: {}", text_of(&key.name), flow(node)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        _ => node.plain().to_string(),
    }
}

/// A text, in quotes where it would be read as something else without them.
fn text_of(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || " ._+/-[]".contains(c);
    let starts = text
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_alphanumeric());
    let read = text::parse(text).map(|node| node.value);
    let same = matches!(read, Ok(Value::Text(read)) if read == text);
    if starts && same && text.chars().all(plain) && !text.contains(['[', ']']) {
        return text.to_owned();
    }
    match text.strip_suffix(" %") {
        Some(number) if number.parse::<f64>().is_ok() => text.to_owned(),
        _ => serde_json::Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{HostFacts, check_changed, load};
    use super::*;

    fn host() -> HostFacts {
        HostFacts {
            memory: u64::MAX,
            results: Some(std::env::temp_dir()),
        }
    }

    #[test]
    fn every_experiment_is_the_same_when_it_is_resolved() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        for entry in crate::list::experiments(folder).unwrap() {
            let loaded = load(&entry.file, None, &[], &host()).unwrap();
            let text = resolved(&loaded);
            let again = check_changed("resolved", text.clone(), &[], &loaded.folder, &host());
            let again = again.unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert_eq!(again.experiment, loaded.experiment, "{text}");
        }
    }

    #[test]
    fn it_says_where_each_value_came_from() {
        let text = "version: 1\nname: x\nmachine: { memory: 1 GiB }\nguests:\n  - { id: a, count: 1, memory: 16 MiB, workload: { name: touch } }\n";
        let settings = ["guests.a.vcpus=2".to_owned()];
        let loaded = check_changed("x", text.to_owned(), &settings, Path::new("."), &host());
        let shown = resolved(&loaded.unwrap());
        for line in [
            "name: x  # line 2\n",
            "seed: 1  # default\n",
            "    vcpus: 2  # --set\n",
            "    count: 1  # line 5\n",
            "  - id: settle  # default\n",
            "  nice: 15  # default\n",
        ] {
            assert!(shown.contains(line), "{line}\n{shown}");
        }
    }
}
