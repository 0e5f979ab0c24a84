//! What an experiment file may say: every field with its type, default and purpose, told once.
//!
//! The reader reads by these descriptions, its messages quote them, and the JSON Schema and the
//! reference of all fields are written from them. Nothing else describes the format.

use super::reader::FromNode;

/// A kind of value.
#[derive(Clone, Debug)]
pub enum Shape {
    /// A whole number.
    Number {
        /// The least.
        least: u64,
        /// The greatest.
        most: u64,
    },
    /// Any number.
    Decimal,
    /// Whatever the field that is named beside it takes.
    Any,
    /// Text on one place; how it looks, for people, and as a regular expression.
    Text {
        /// Name of the kind, as in `docs/experiments.md`.
        name: &'static str,
        /// Regular expression of it; empty for any.
        pattern: &'static str,
    },
    /// One of these words; each with what it means.
    Words(Vec<(&'static str, &'static str)>),
    /// A list.
    List(Box<Shape>),
    /// A map whose keys the user chooses.
    ById(Box<Shape>),
    /// A map with these fields.
    Map(Map),
    /// A map whose other fields follow from the word in this one.
    Tagged {
        /// The field.
        tag: &'static str,
        /// What may be in it, by word: `name` of the maps.
        maps: Vec<Map>,
    },
    /// One of these.
    Either(Vec<Shape>),
}

/// A map with known fields.
#[derive(Clone, Debug)]
pub struct Map {
    /// Its name in the reference.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Its fields.
    pub fields: Vec<Field>,
    /// Fields of which exactly one must be there; empty if there are none.
    pub one_of: &'static [&'static str],
}

/// A field of a map.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its key.
    pub name: &'static str,
    /// What it holds.
    pub shape: fn() -> Shape,
    /// What is true without it.
    pub absent: Absent,
    /// What it is for.
    pub about: &'static str,
}

/// What is true without a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It must be there.
    Refused,
    /// As if this had been written, in YAML.
    Reads(&'static str),
    /// It is not set; in words.
    Means(&'static str),
}

impl Field {
    /// A field that must be there.
    pub fn needed<T: FromNode>(name: &'static str, about: &'static str) -> Self {
        Self::new::<T>(name, Absent::Refused, about)
    }

    /// A field that is read as `default` where it is not there.
    pub fn or<T: FromNode>(name: &'static str, default: &'static str, about: &'static str) -> Self {
        Self::new::<T>(name, Absent::Reads(default), about)
    }

    /// A field that need not be there; `without` says in words what that means.
    pub fn maybe<T: FromNode>(
        name: &'static str,
        without: &'static str,
        about: &'static str,
    ) -> Self {
        Self::new::<T>(name, Absent::Means(without), about)
    }

    fn new<T: FromNode>(name: &'static str, absent: Absent, about: &'static str) -> Self {
        let shape = T::shape;
        Self {
            name,
            shape,
            absent,
            about,
        }
    }
}

impl Map {
    /// A map with these fields.
    #[must_use]
    pub fn new(name: &'static str, about: &'static str, fields: Vec<Field>) -> Self {
        Self {
            name,
            about,
            fields,
            one_of: &[],
        }
    }

    /// Of which exactly one of these must be there.
    #[must_use]
    pub fn one_of(mut self, one_of: &'static [&'static str]) -> Self {
        self.one_of = one_of;
        self
    }

    /// The field of that name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// What to write for it, for messages: what must be there, or else what may be.
    #[must_use]
    pub fn expected(&self) -> String {
        let needed = |field: &&Field| field.absent == Absent::Refused;
        let mut names = self.fields.iter().filter(needed).collect::<Vec<_>>();
        if names.is_empty() && self.one_of.is_empty() {
            names = self.fields.iter().collect();
        }
        let mut names = names.iter().map(|f| quoted(f.name)).collect::<Vec<_>>();
        if !self.one_of.is_empty() {
            let one = self.one_of.iter().map(|name| quoted(name));
            names.push(format!("one of {}", one.collect::<Vec<_>>().join(", ")));
        }
        match names.split_last() {
            None => "a map".to_owned(),
            Some((last, [])) => format!("a map with {last}"),
            Some((last, rest)) => format!("a map with {} and {last}", rest.join(", ")),
        }
    }
}

impl Shape {
    /// The kind of value, in the words of `docs/experiments.md`.
    #[must_use]
    pub fn word(&self) -> String {
        match self {
            Self::Number { least: 0, .. } => "number".to_owned(),
            Self::Number { .. } => "count".to_owned(),
            Self::Decimal => "decimal".to_owned(),
            Self::Any => "value".to_owned(),
            Self::Text { name, .. } => (*name).to_owned(),
            Self::Words(words) => {
                let words = words.iter().map(|(word, _)| quoted(word));
                words.collect::<Vec<_>>().join(", ")
            }
            Self::List(item) => format!("list of {}", item.word()),
            Self::ById(item) => format!("map from an id to {}", item.word()),
            Self::Map(map) => map.name.to_owned(),
            Self::Tagged { maps, .. } => {
                let group = maps.first().map_or("", |map| map.name);
                group.split(' ').next().unwrap_or(group).to_owned()
            }
            Self::Either(shapes) => {
                let words = shapes.iter().map(Self::word);
                words.collect::<Vec<_>>().join(" or ")
            }
        }
    }
}

fn quoted(name: &str) -> String {
    format!("`{name}`")
}
