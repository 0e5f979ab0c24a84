//! YAML text to a tree of marked nodes: the only module that knows the YAML library.
//!
//! A tree, not derived structures, because a user wants to hear of *all* mistakes in a file at
//! once, each with its place, while a derived deserialiser stops at the first one.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;
use serde_yaml::Spanned;

use super::diagnostic::{Diagnostic, Mark};

/// A value and where it stands in the text.
#[derive(Clone, Debug)]
pub struct Node {
    /// What was written.
    pub value: Value,
    /// Where it was written.
    pub mark: Mark,
}

/// A YAML value.
#[derive(Clone, Debug)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// Anything else on one place.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the text; keys may repeat (the reader reports that).
    Map(Vec<(Key, Node)>),
}

/// A map's key and where it stands.
#[derive(Clone, Debug)]
pub struct Key {
    /// The key.
    pub name: String,
    /// Where it was written.
    pub mark: Mark,
}

impl Value {
    /// How to name this kind of value in a message.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "empty",
            Self::Bool(_) => "a truth value",
            Self::Integer(_) => "a whole number",
            Self::Float(number) if number.fract() == 0.0 => "a number out of range",
            Self::Float(_) => "a number with a fraction",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl Node {
    /// The value without its marks.
    #[must_use]
    pub fn plain(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => (*value).into(),
            Value::Integer(value) => i64::try_from(*value).unwrap_or(i64::MAX).into(),
            Value::Float(value) => (*value).into(),
            Value::Text(value) => value.as_str().into(),
            Value::List(items) => items.iter().map(Self::plain).collect(),
            Value::Map(entries) => {
                let entries = entries.iter();
                let entries = entries.map(|(key, node)| (key.name.clone(), node.plain()));
                Json::Object(entries.collect())
            }
        }
    }

    /// The value of a field, if this is a map that has it.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        let mut entries = entries.iter();
        Some(&entries.find(|(key, _)| key.name == name)?.1)
    }

    /// Gives it and all below it other marks.
    pub fn mark_again(&mut self, mark: &impl Fn(Mark) -> Mark) {
        self.mark = mark(self.mark);
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.mark_again(mark)),
            Value::Map(entries) => {
                for (key, node) in entries {
                    key.mark = mark(key.mark);
                    node.mark_again(mark);
                }
            }
            _ => {}
        }
    }
}

/// Parses one YAML document.
///
/// # Errors
/// A text that is not YAML, with the place where it stops being it.
pub fn parse(text: &str) -> Result<Node, Diagnostic> {
    let meaningful = text.lines().any(|line| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#') && line != "---"
    });
    if !meaningful {
        return Err(Diagnostic::new(Mark::START, "the file is empty")
            .expected("an experiment: at least `version`, `name`, `machine` and `guests`"));
    }
    let options = serde_yaml::options! {
        strict_booleans: true,
        duplicate_keys: serde_yaml::DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
    };
    serde_yaml::from_str_with_options::<Spanned<Value>>(text, options)
        .map(node)
        .map_err(|error| not_yaml(text, &error))
}

fn not_yaml(whole: &str, error: &serde_yaml::Error) -> Diagnostic {
    let mark = error
        .location()
        .map_or(Mark::START, |location| mark(&location));
    let text = error.without_snippet().to_string();
    // The library ends its messages with the place, which the diagnostic shows anyway.
    let message = text
        .split(" at line ")
        .next()
        .unwrap_or(&text)
        .trim()
        .to_owned();
    let (message, expected) = reworded(&message);
    let problem = Diagnostic::new(inside(mark, whole), format!("not valid YAML: {message}"))
        .expected(expected);
    match likely_cause(whole) {
        Some(cause) => problem.help(cause),
        None => problem,
    }
}

/// The parser's words in ours, where its own are for programmers; and what would be right.
fn reworded(message: &str) -> (&str, &'static str) {
    let one_map = "a YAML document with one map at the top";
    if message.contains("multiple YAML documents") {
        return ("a second document begins", "one experiment in a file");
    }
    if message.contains("unknown anchor") {
        let expected = "an anchor of that name (`&name`) further up";
        return ("nothing was given this name", expected);
    }
    if message.contains("non-finite float") {
        return ("a number is not finite, or too large", "a finite number");
    }
    if message.contains("mapping values are not allowed") {
        let expected =
            "a line indented like its neighbours, and quotes around text that has `: ` in it";
        return ("no field can begin here", expected);
    }
    (message, one_map)
}

/// A mark in the text: some mistakes are noticed behind its end only.
fn inside(mark: Mark, text: &str) -> Mark {
    let lines = u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
    if mark.line <= lines {
        return mark;
    }
    Mark {
        line: lines.max(1),
        ..Mark::START
    }
}

/// Why a text is probably not YAML: the parser notices some mistakes only lines later.
fn likely_cause(text: &str) -> Option<String> {
    if let Some(line) = text
        .lines()
        .position(|line| line.trim_start_matches(' ').starts_with('\t'))
    {
        return Some(format!(
            "line {} is indented with a tab; YAML wants spaces",
            line + 1
        ));
    }
    let (mut open, mut before) = (Vec::new(), ' ');
    let mut quote: Option<(char, usize)> = None;
    for (number, line) in text.lines().enumerate() {
        for (column, c) in line.chars().enumerate() {
            match (quote, c) {
                (Some((end, _)), c) if c == end => quote = None,
                (Some(_), _) => {}
                (None, '#') if before.is_whitespace() => break,
                (None, '"' | '\'') if !before.is_alphanumeric() => quote = Some((c, number + 1)),
                (None, '{' | '[') => open.push((c, number + 1, column + 1)),
                (None, '}' | ']') => drop(open.pop()),
                (None, _) => {}
            }
            before = c;
        }
        before = ' ';
    }
    if let Some((mark, line)) = quote {
        return Some(format!("the `{mark}` in line {line} is never closed"));
    }
    let (bracket, line, column) = open.last()?;
    Some(format!(
        "the `{bracket}` in line {line}, column {column} is never closed"
    ))
}

fn mark(location: &serde_yaml::Location) -> Mark {
    let line = u32::try_from(location.line()).unwrap_or(u32::MAX).max(1);
    let column = u32::try_from(location.column()).unwrap_or(u32::MAX).max(1);
    let length = u32::try_from(location.span().len()).unwrap_or(1);
    Mark {
        line,
        column,
        length,
    }
}

fn node(spanned: Spanned<Value>) -> Node {
    Node {
        mark: mark(&spanned.referenced),
        value: spanned.value,
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(item) = list.next_element::<Spanned<Value>>()? {
            nodes.push(node(item));
        }
        Ok(Value::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let value = map.next_value::<Spanned<Value>>()?;
            entries.push((
                Key {
                    mark: mark(&key.referenced),
                    name: key.value,
                },
                node(value),
            ));
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_point_at_keys_and_values() {
        let tree = parse("# comment\nname: quick\nguests:\n  - id: a\n    count: 8\n").unwrap();
        let Value::Map(top) = tree.value else {
            panic!("{tree:?}")
        };
        assert_eq!(
            top[0].1.mark,
            Mark {
                line: 2,
                column: 7,
                length: 5
            }
        );
        let Value::List(guests) = &top[1].1.value else {
            panic!()
        };
        let Value::Map(guest) = &guests[0].value else {
            panic!()
        };
        assert_eq!(guest[1].0.mark.line, 5);
        assert!(matches!(guest[1].1.value, Value::Integer(8)));
        assert_eq!((guest[1].1.mark.line, guest[1].1.mark.column), (5, 12));
    }

    #[test]
    fn on_and_off_are_words_not_truth_values() {
        let Value::Map(top) = parse("a: on\nb: true\nc: 1.5\nd: ~\n").unwrap().value else {
            panic!()
        };
        assert!(matches!(&top[0].1.value, Value::Text(text) if text == "on"));
        assert!(matches!(top[1].1.value, Value::Bool(true)));
        assert!(matches!(top[2].1.value, Value::Float(_)));
        assert!(matches!(top[3].1.value, Value::Null));
    }

    #[test]
    fn repeated_keys_are_kept_for_the_reader() {
        let Value::Map(top) = parse("a: 1\na: 2\n").unwrap().value else {
            panic!()
        };
        assert_eq!(top.len(), 2);
    }
}
