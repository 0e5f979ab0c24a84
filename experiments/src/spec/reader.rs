//! Reads marked nodes into typed values and collects every problem met on the way.
//!
//! A value that can't be read becomes `None` and a diagnostic; reading goes on. The reader
//! remembers where each field stands, so that checks across fields can point at them later.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::describe::{Absent, Map, Shape};
use super::diagnostic::{Diagnostic, Mark, nearest};
use super::text::{self, Key, Node, Value};

/// Where every field that was written stands, by its path.
pub type Marks = BTreeMap<String, Mark>;

/// A type of which every value has a word.
pub trait Word: Copy + 'static {
    /// The words, each with its value and what it means.
    const WORDS: &'static [(&'static str, Self, &'static str)];
}

/// A type that is read from the fields of a map.
pub trait FromMap: Sized {
    /// The map's description.
    fn map() -> Map;

    /// Reads it. A field that is missing or wrong was reported by the field's own reader.
    fn from_fields(fields: &Fields<'_>) -> Option<Self>;
}

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
    /// What may be written for it.
    fn shape() -> Shape;

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

    /// Where it is in the text.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        self.mark
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
    pub fn fields(&self, node: &'a Node, map: Map) -> Option<Fields<'a>> {
        match &node.value {
            Value::Map(entries) => Some(Fields::new(self.clone(), entries, map)),
            _ => self.wrong_kind(node, &map.expected()),
        }
    }

    /// The fields of a map that was looked at before: what is wrong with the map was told then.
    #[must_use]
    pub fn again(&self, node: &'a Node, map: Map) -> Option<Fields<'a>> {
        let Value::Map(entries) = &node.value else {
            return None;
        };
        let at = self.clone();
        Some(Fields { at, entries, map })
    }

    /// The entries of a map whose keys are free, each with its place.
    #[must_use]
    pub fn entries(
        &self,
        node: &'a Node,
        expected: &str,
    ) -> Option<Vec<(Self, &'a Key, &'a Node)>> {
        let Value::Map(entries) = &node.value else {
            return self.wrong_kind(node, expected);
        };
        self.report_repeated(entries);
        let place = |key: &Key, node| self.below(self.path_of(&key.name), node);
        let placed = entries
            .iter()
            .map(|(key, node)| (place(key, node), key, node));
        Some(placed.collect())
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

    fn report_repeated(&self, entries: &[(Key, Node)]) {
        for (index, (key, _)) in entries.iter().enumerate() {
            let mut earlier = entries[..index].iter();
            let Some((first, _)) = earlier.find(|(earlier, _)| earlier.name == key.name) else {
                continue;
            };
            let message = format!("this field was given before, in line {}", first.mark.line);
            let problem = Diagnostic::new(key.mark, message).at(self.path_of(&key.name));
            self.report::<()>(problem.expected("each field once"));
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
}

impl<T: Word> FromNode for T {
    fn shape() -> Shape {
        let words = Self::WORDS.iter().map(|(word, _, about)| (*word, *about));
        Shape::Words(words.collect())
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let words = Self::WORDS.iter().map(|(word, value, _)| (*word, *value));
        at.word(node, &words.collect::<Vec<_>>())
    }
}

/// The fields of one map, which is described. Fields that the description does not have are
/// reported by [`Fields::finish`].
#[derive(Debug)]
pub struct Fields<'a> {
    at: At<'a>,
    entries: &'a [(Key, Node)],
    map: Map,
}

impl<'a> Fields<'a> {
    fn new(at: At<'a>, entries: &'a [(Key, Node)], map: Map) -> Self {
        at.report_repeated(entries);
        Self { at, entries, map }
    }

    /// The node of a field, if it was written.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<(At<'a>, &'a Node)> {
        let (_, node) = self.entries.iter().find(|(key, _)| key.name == name)?;
        Some((self.at.below(self.at.path_of(name), node), node))
    }

    /// A field: as written, or else by its description. A field that must be there and is not is
    /// reported at the map.
    pub fn get<T: FromNode>(&self, name: &str) -> Option<T> {
        let field = self.map.field(name);
        debug_assert!(
            field.is_some_and(|field| (field.shape)().word() == T::shape().word()),
            "`{name}` of `{}` is not as described",
            self.map.name
        );
        let absent = field.map_or(Absent::Means(""), |field| field.absent);
        if let Some((at, node)) = self.node(name) {
            let value = T::from_node(&at, node);
            // What was wrong was told; checks across fields go on with what would be there else.
            return value.or_else(|| default(absent));
        }
        if absent == Absent::Refused && !self.is_misspelt(name) {
            let problem = self.at.problem(format!("`{name}` is missing"));
            let about = field.map_or("", |field| field.about);
            let word = T::shape().word();
            self.at
                .report::<()>(problem.expected(format!("`{name}`: {word}; {about}")));
        }
        default(absent)
    }

    /// Whether the writer meant that field by another, which is unknown and will be told of.
    fn is_misspelt(&self, name: &str) -> bool {
        let unknown = self.entries.iter().map(|(key, _)| key.name.as_str());
        let mut unknown = unknown.filter(|key| self.map.field(key).is_none());
        unknown.any(|key| nearest(key, self.names()) == Some(name))
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.map.fields.iter().map(|field| field.name)
    }

    /// The map's path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.at.path
    }

    /// A problem with the map as a whole.
    #[must_use]
    pub fn problem(&self, message: impl Into<String>) -> Diagnostic {
        self.at.problem(message)
    }

    /// Keeps a problem.
    pub fn report<T>(&self, diagnostic: Diagnostic) -> Option<T> {
        self.at.report(diagnostic)
    }

    /// Whether that field was written.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, _)| key.name == name)
    }

    /// Reports what was written and is not known here, and choices that were not made. `None` if
    /// exactly one of some fields should be there, and is not.
    pub fn finish(self) -> Option<()> {
        let known = self.names().collect::<Vec<_>>();
        for (key, _) in self.entries {
            if known.contains(&key.name.as_str()) {
                continue;
            }
            let problem = Diagnostic::new(key.mark, format!("unknown field `{}`", key.name))
                .at(self.at.path.clone())
                .expected(format!("one of {}", known.join(", ")));
            self.at
                .report::<()>(problem.nearest(&key.name, known.iter().copied()));
        }
        self.one_of()
    }

    fn one_of(&self) -> Option<()> {
        let names = self.map.one_of;
        let given = names.iter().copied().filter(|name| self.has(name));
        let given = given.collect::<Vec<_>>();
        let problem = match &given[..] {
            [] if names.is_empty() => return Some(()),
            [_] => return Some(()),
            [] if names.iter().any(|name| self.is_misspelt(name)) => return None,
            [] => self.at.problem(format!("none of {} is given", list(names))),
            several => self
                .at
                .problem(format!("{} exclude each other", list(several))),
        };
        self.at.report(problem.expected(self.map.expected()))
    }
}

fn list(names: &[&str]) -> String {
    let names = names.iter().map(|name| format!("`{name}`"));
    names.collect::<Vec<_>>().join(", ")
}

/// A field that was not written, as its description has it.
fn default<T: FromNode>(absent: Absent) -> Option<T> {
    let Absent::Reads(text) = absent else {
        return None;
    };
    let node = text::parse(text).ok()?;
    let findings = Findings::default();
    T::from_node(&At::top(&findings, &node), &node)
}

/// Reads a type that is a map.
pub fn read_map<T: FromMap>(at: &At<'_>, node: &Node) -> Option<T> {
    let fields = at.fields(node, T::map())?;
    let value = T::from_fields(&fields);
    fields.finish()?;
    value
}

/// Makes types that are read from maps readable from nodes.
macro_rules! from_map {
    ($($type:ty),+ $(,)?) => {
        $(impl $crate::spec::reader::FromNode for $type {
            fn shape() -> $crate::spec::describe::Shape {
                $crate::spec::describe::Shape::Map(
                    <$type as $crate::spec::reader::FromMap>::map(),
                )
            }

            fn from_node(
                at: &$crate::spec::reader::At<'_>,
                node: &$crate::spec::text::Node,
            ) -> Option<Self> {
                $crate::spec::reader::read_map(at, node)
            }
        })+
    };
}
pub(super) use from_map;

impl FromNode for String {
    fn shape() -> Shape {
        Shape::Text {
            name: "text",
            pattern: "",
        }
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        match &node.value {
            Value::Text(text) if !text.trim().is_empty() => Some(text.clone()),
            Value::Text(_) => at.report(at.problem("this text is empty").expected("some text")),
            _ => at.wrong_kind(node, "text (put it in quotes if it looks like a number)"),
        }
    }
}

impl<T: FromNode> FromNode for Vec<T> {
    fn shape() -> Shape {
        Shape::List(Box::new(T::shape()))
    }

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
