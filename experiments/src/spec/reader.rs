//! Reads marked nodes into typed values and collects every problem met on the way.
//!
//! A value that can't be read becomes `None` and a diagnostic; reading goes on. The reader
//! remembers where each field stands, so that checks across fields can point at them later.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::diagnostic::{Diagnostic, Mark};
use super::text::{Key, Node, Value};

/// Where every field that was written stands, by its path.
pub type Marks = BTreeMap<String, Mark>;

/// What has been found so far.
#[derive(Debug, Default)]
pub struct Findings {
    diagnostics: RefCell<Vec<Diagnostic>>,
    marks: RefCell<Marks>,
}

impl Findings {
    /// All problems, and the places of all fields.
    #[must_use]
    pub fn into_parts(self) -> (Vec<Diagnostic>, Marks) {
        (self.diagnostics.into_inner(), self.marks.into_inner())
    }
}

/// A place in the tree that is being read.
#[derive(Clone, Debug)]
pub struct At<'a> {
    findings: &'a Findings,
    path: String,
    mark: Mark,
}

/// A type that can be read from a node.
pub trait FromNode: Sized {
    /// Reads the value; a value that is wrong is reported to `at` and is `None`.
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self>;
}

impl<'a> At<'a> {
    /// The top of the tree.
    #[must_use]
    pub fn top(findings: &'a Findings, node: &Node) -> Self {
        findings.marks.borrow_mut().insert(String::new(), node.mark);
        Self {
            findings,
            path: String::new(),
            mark: node.mark,
        }
    }

    /// The place of a field or item below this one.
    #[must_use]
    pub fn below(&self, path: String, node: &Node) -> Self {
        self.findings
            .marks
            .borrow_mut()
            .insert(path.clone(), node.mark);
        Self {
            findings: self.findings,
            path,
            mark: node.mark,
        }
    }

    /// The place of a list's item.
    #[must_use]
    pub fn item(&self, index: usize, node: &Node) -> Self {
        self.below(format!("{}[{index}]", self.path), node)
    }

    /// A problem with the value here; to be given to [`At::report`].
    #[must_use]
    pub fn problem(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(self.mark, message).at(self.path.clone())
    }

    /// Keeps a problem; the `None` is for the caller to return.
    pub fn report<T>(&self, diagnostic: Diagnostic) -> Option<T> {
        self.findings.diagnostics.borrow_mut().push(diagnostic);
        None
    }

    /// Reports that the value here is of the wrong kind.
    pub fn wrong_kind<T>(&self, node: &Node, expected: &str) -> Option<T> {
        self.report(
            self.problem(format!("this is {}", node.value.kind()))
                .expected(expected),
        )
    }

    /// The fields of a map, or a report that it is none.
    #[must_use]
    pub fn fields(&self, node: &'a Node, expected: &str) -> Option<Fields<'a>> {
        match &node.value {
            Value::Map(entries) => Some(Fields::new(self.clone(), entries)),
            _ => self.wrong_kind(node, expected),
        }
    }

    /// The path of a field below this place.
    #[must_use]
    pub fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// One of these words.
    pub fn word<T: Copy>(&self, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let all = words.iter().map(|(word, _)| *word).collect::<Vec<_>>();
        let expected = format!("one of {}", all.join(", "));
        let Value::Text(text) = &node.value else {
            return self.wrong_kind(node, &expected);
        };
        if let Some((_, value)) = words.iter().find(|(word, _)| word == text) {
            return Some(*value);
        }
        let problem = self
            .problem(format!("`{text}` is not known here"))
            .expected(expected);
        self.report(problem.nearest(text, all))
    }
}

/// The fields of one map. Fields that nobody asked for are reported by [`Fields::finish`].
#[derive(Debug)]
pub struct Fields<'a> {
    at: At<'a>,
    entries: &'a [(Key, Node)],
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Fields<'a> {
    fn new(at: At<'a>, entries: &'a [(Key, Node)]) -> Self {
        for (index, (key, _)) in entries.iter().enumerate() {
            if entries[..index]
                .iter()
                .any(|(earlier, _)| earlier.name == key.name)
            {
                let path = at.path_of(&key.name);
                at.report::<()>(
                    Diagnostic::new(key.mark, "this field was given before")
                        .at(path)
                        .expected("each field once"),
                );
            }
        }
        Self {
            at,
            entries,
            known: RefCell::new(Vec::new()),
        }
    }

    /// The node of a field, if it was written.
    #[must_use]
    pub fn node(&self, name: &'static str) -> Option<(At<'a>, &'a Node)> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&name) {
            known.push(name);
        }
        let (_, node) = self.entries.iter().find(|(key, _)| key.name == name)?;
        Some((self.at.below(self.at.path_of(name), node), node))
    }

    /// An optional field.
    pub fn get<T: FromNode>(&self, name: &'static str) -> Option<T> {
        let (at, node) = self.node(name)?;
        T::from_node(&at, node)
    }

    /// A field with a default.
    pub fn or<T: FromNode>(&self, name: &'static str, default: T) -> T {
        self.get(name).unwrap_or(default)
    }

    /// A field that must be there; its absence is reported at the map.
    pub fn need<T: FromNode>(&self, name: &'static str) -> Option<T> {
        let Some((at, node)) = self.node(name) else {
            let problem = self.at.problem(format!("`{name}` is missing"));
            return self
                .at
                .report(problem.expected(format!("a field `{name}`")));
        };
        T::from_node(&at, node)
    }

    /// All entries, for maps whose keys are free.
    #[must_use]
    pub fn entries(&self) -> &'a [(Key, Node)] {
        self.entries
    }

    /// Whether that field was written.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, _)| key.name == name)
    }

    /// Reports it unless exactly one of these fields, which are `what` in plural, was written.
    pub fn need_one_of(&self, names: &[&str], what: &str, expected: &str) -> Option<()> {
        match names.iter().filter(|name| self.has(name)).count() {
            1 => Some(()),
            given => {
                let problem = self.at.problem(format!("{given} {what} are given"));
                self.at.report(problem.expected(expected))
            }
        }
    }

    /// Reports the fields that are not known here.
    pub fn finish(self) {
        let known = self.known.into_inner();
        for (key, _) in self
            .entries
            .iter()
            .filter(|(key, _)| !known.contains(&key.name.as_str()))
        {
            let problem = Diagnostic::new(key.mark, format!("unknown field `{}`", key.name))
                .at(self.at.path.clone())
                .expected(format!("one of {}", known.join(", ")));
            self.at
                .report::<()>(problem.nearest(&key.name, known.iter().copied()));
        }
    }
}

impl FromNode for String {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        match &node.value {
            Value::Text(text) if !text.trim().is_empty() => Some(text.clone()),
            Value::Text(_) => at.report(at.problem("this text is empty").expected("some text")),
            _ => at.wrong_kind(node, "text (put it in quotes if it looks like a number)"),
        }
    }
}

impl<T: FromNode> FromNode for Vec<T> {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let Value::List(items) = &node.value else {
            return at.wrong_kind(node, "a list (lines that start with `- `)");
        };
        // Every item is read, so that all their problems are found; a list with a gap would make
        // later messages name the wrong item.
        let read = items
            .iter()
            .enumerate()
            .map(|(index, item)| T::from_node(&at.item(index, item), item));
        read.collect::<Vec<_>>().into_iter().collect()
    }
}
