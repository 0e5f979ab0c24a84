//! Fields by their path, such as `guests.web.memory`: what `--set` and sweeps change.
//!
//! A path is walked through the tree and the descriptions at once, so that a name that no field has
//! is found here, with the names that there are. What is set is read and checked like the rest of
//! the file afterwards, with its own marks.

use super::Experiment;
use super::describe::{Map, Shape};
use super::diagnostic::{Diagnostic, Mark};
use super::reader::FromNode;
use super::text::{self, Key, Node, Value};

/// A field's new value.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Path of the field.
    pub path: String,
    /// Where the path was written.
    pub mark: Mark,
    /// The value.
    pub value: Node,
}

/// One step of a path: a field, an id, or `[n]`.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

impl Setting {
    /// Reads `path=value`, the command line's setting of that number.
    ///
    /// # Errors
    /// It is no such thing.
    pub fn parse(text: &str, number: usize) -> Result<Self, Diagnostic> {
        let whole = mark(1, text.chars().count()).in_setting(number);
        let expected = "`path=value`, such as `guests.web.memory=32 MiB`";
        let Some((path, value)) = text.split_once('=') else {
            return Err(Diagnostic::new(whole, "there is no `=`").expected(expected));
        };
        let path_mark = mark(1, path.chars().count()).in_setting(number);
        let columns = u32::try_from(path.chars().count()).unwrap_or(0) + 1;
        let moved = |mark: Mark| {
            let column = mark.column.saturating_add(columns);
            Mark { column, ..mark }.in_setting(number)
        };
        if value.trim().is_empty() {
            return Err(Diagnostic::new(whole, "there is no value").expected(expected));
        }
        let mut value = text::parse(value).map_err(|mut problem| {
            problem.mark = moved(problem.mark);
            problem.expected("a value as it would be written in the file")
        })?;
        value.mark_again(&moved);
        Ok(Self {
            path: path.trim().to_owned(),
            mark: path_mark,
            value,
        })
    }

    /// Puts the value into the tree of an experiment file.
    ///
    /// # Errors
    /// There is no field of that path.
    pub fn apply(&self, tree: &mut Node) -> Result<(), Diagnostic> {
        let steps = steps(&self.path).ok_or_else(|| {
            self.problem("this is no path")
                .expected("names with dots between them, such as `guests.web.memory`")
        })?;
        let walk = Walk { setting: self };
        walk.go(tree, &Experiment::shape(), &steps, "")
    }

    fn problem(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(self.mark, message).at(self.path.clone())
    }
}

fn mark(column: u32, length: usize) -> Mark {
    let length = u32::try_from(length).unwrap_or(u32::MAX).max(1);
    Mark {
        line: 1,
        column,
        length,
    }
}

fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (name, rest) = part.split_at(part.find('[').unwrap_or(part.len()));
        if name.is_empty() {
            return None;
        }
        steps.push(Step::Name(name));
        for index in rest.split_inclusive(']') {
            let index = index.strip_prefix('[')?.strip_suffix(']')?;
            steps.push(Step::Index(index.parse().ok()?));
        }
    }
    Some(steps)
}

struct Walk<'a> {
    setting: &'a Setting,
}

impl Walk<'_> {
    /// Goes on from a node, which stands at `trail`.
    fn go(
        &self,
        node: &mut Node,
        shape: &Shape,
        steps: &[Step<'_>],
        trail: &str,
    ) -> Result<(), Diagnostic> {
        let Some((step, rest)) = steps.split_first() else {
            *node = self.setting.value.clone();
            return Ok(());
        };
        match (shape, *step) {
            (Shape::Map(map), Step::Name(name)) => self.field(node, &[map], (name, rest), trail),
            (Shape::Tagged { tag, maps }, Step::Name(name)) => {
                let tagged = node.field(tag).map(Node::plain);
                let word = tagged.as_ref().and_then(|word| word.as_str());
                let named = maps.iter().filter(|map| word_of(map) == word);
                let mut named = named.collect::<Vec<_>>();
                if named.is_empty() {
                    named = maps.iter().collect();
                }
                self.field(node, &named, (name, rest), trail)
            }
            (Shape::ById(item), Step::Name(id)) => {
                let entry = self.entry(node, id, trail)?;
                self.go(entry, item, rest, &below(trail, id))
            }
            (Shape::List(item), step) => self.item(node, item, (step, rest), trail),
            (Shape::Either(shapes), _) => {
                let mut last = None;
                for shape in shapes {
                    match self.go(node, shape, steps, trail) {
                        Ok(()) => return Ok(()),
                        Err(problem) => last = Some(problem),
                    }
                }
                Err(last.unwrap_or_else(|| self.no_fields(trail, shape)))
            }
            _ => Err(self.no_fields(trail, shape)),
        }
    }

    fn no_fields(&self, trail: &str, shape: &Shape) -> Diagnostic {
        let message = format!("`{trail}` has no fields");
        let problem = self.setting.problem(message);
        problem.expected(format!("`{trail}` itself: {}", shape.word()))
    }

    fn field(
        &self,
        node: &mut Node,
        maps: &[&Map],
        (name, rest): (&str, &[Step<'_>]),
        trail: &str,
    ) -> Result<(), Diagnostic> {
        let Some(field) = maps.iter().find_map(|map| map.field(name)) else {
            let mut known = Vec::new();
            for field in maps.iter().flat_map(|map| &map.fields) {
                if !known.contains(&field.name) {
                    known.push(field.name);
                }
            }
            let message = match trail {
                "" => format!("there is no field `{name}`"),
                trail => format!("`{trail}` has no field `{name}`"),
            };
            let problem = self.setting.problem(message);
            let problem = problem.expected(format!("one of {}", known.join(", ")));
            return Err(problem.nearest(name, known));
        };
        let shape = (field.shape)();
        let entry = self.entry(node, name, trail)?;
        self.go(entry, &shape, rest, &below(trail, name))
    }

    /// The entry of a map, made where there is none.
    fn entry<'n>(
        &self,
        node: &'n mut Node,
        name: &str,
        trail: &str,
    ) -> Result<&'n mut Node, Diagnostic> {
        if matches!(node.value, Value::Null) {
            node.value = Value::Map(Vec::new());
        }
        let kind = node.value.kind();
        let Value::Map(entries) = &mut node.value else {
            let problem = self
                .setting
                .problem(format!("`{trail}` is {kind} in the file"));
            return Err(problem.expected("a path of a field that is there"));
        };
        let place = entries.iter().position(|(key, _)| key.name == name);
        let place = place.unwrap_or_else(|| {
            let key = Key {
                name: name.to_owned(),
                mark: self.setting.mark,
            };
            entries.push((key, self.nothing()));
            entries.len() - 1
        });
        Ok(&mut entries[place].1)
    }

    fn nothing(&self) -> Node {
        Node {
            value: Value::Null,
            mark: self.setting.mark,
        }
    }

    /// The item of a list, by its number or its `id`.
    fn item(
        &self,
        node: &mut Node,
        shape: &Shape,
        (step, rest): (Step<'_>, &[Step<'_>]),
        trail: &str,
    ) -> Result<(), Diagnostic> {
        if matches!(node.value, Value::Null) {
            node.value = Value::List(Vec::new());
        }
        if let (Value::List(items), Step::Name(id)) = (&mut node.value, step) {
            self.make_phase(items, shape, id);
        }
        let Value::List(items) = &mut node.value else {
            return Err(self.no_fields(trail, shape));
        };
        let ids = items.iter().map(|item| match item.field("id") {
            Some(id) => id.plain().as_str().unwrap_or_default().to_owned(),
            None => String::new(),
        });
        let ids = ids.collect::<Vec<_>>();
        let place = match step {
            Step::Index(index) => Some(index).filter(|index| *index < items.len()),
            Step::Name(name) => ids.iter().position(|id| id == name),
        };
        let Some(place) = place else {
            return Err(self.no_item(step, trail, &ids));
        };
        let trail = match step {
            Step::Index(index) => format!("{trail}[{index}]"),
            Step::Name(name) => below(trail, name),
        };
        self.go(&mut items[place], shape, rest, &trail)
    }

    fn no_item(&self, step: Step<'_>, trail: &str, ids: &[String]) -> Diagnostic {
        let ids = ids.iter().map(String::as_str).filter(|id| !id.is_empty());
        let ids = ids.collect::<Vec<_>>();
        let message = match step {
            Step::Index(index) => format!("`{trail}` has no item {index}"),
            Step::Name(name) => format!("there is no `{name}` in `{trail}`"),
        };
        let problem = self.setting.problem(message);
        let problem = problem.expected(match ids.is_empty() {
            true => format!("the number of an item of `{trail}`, such as `{trail}[0]`"),
            false => format!("one of {}", ids.join(", ")),
        });
        match step {
            Step::Name(name) => problem.nearest(name, ids),
            Step::Index(_) => problem,
        }
    }

    /// A list of which every item can be left out, with the known ids in a known order, gets the
    /// item: the phases.
    fn make_phase(&self, items: &mut Vec<Node>, shape: &Shape, id: &str) {
        let Shape::Tagged { tag: "id", maps } = shape else {
            return;
        };
        let order = |id: &str| maps.iter().position(|map| word_of(map) == Some(id));
        let order_of = |item: &Node| {
            let id = item.field("id").map(Node::plain)?;
            order(id.as_str()?)
        };
        let Some(place) = order(id) else {
            return;
        };
        if items.iter().any(|item| order_of(item) == Some(place)) {
            return;
        }
        let later = |item: &Node| order_of(item).is_some_and(|other| other > place);
        let before = items.iter().position(later).unwrap_or(items.len());
        let key = Key {
            name: "id".to_owned(),
            mark: self.setting.mark,
        };
        let named = Node {
            value: Value::Text(id.to_owned()),
            mark: self.setting.mark,
        };
        let made = Node {
            value: Value::Map(vec![(key, named)]),
            mark: self.setting.mark,
        };
        items.insert(before, made);
    }
}

/// The word that a tagged map is known by.
fn word_of(map: &Map) -> Option<&str> {
    map.name.split(' ').next_back()
}

fn below(trail: &str, name: &str) -> String {
    match trail {
        "" => name.to_owned(),
        trail => format!("{trail}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const FILE: &str = "\
name: x
guests:
  - { id: web, count: 1, memory: 16 MiB, workload: { name: touch, zero: 5 % } }
  - { id: linux, count: 1, kind: linux, memory: 64 MiB, linux: { kernel: '6.12', run: [a] } }
phases: [{ id: stop, timeout: 5 s }]
";

    fn set(setting: &str) -> Result<serde_json::Value, String> {
        let mut tree = text::parse(FILE).unwrap();
        let setting = Setting::parse(setting, 0).map_err(|problem| problem.message)?;
        let applied = setting.apply(&mut tree);
        applied.map_err(|p| format!("{}; {}", p.message, p.help.unwrap_or_default()))?;
        Ok(tree.plain())
    }

    #[test]
    fn fields_are_found_by_name_id_and_number_and_made_where_they_are_missing() {
        assert_eq!(set("name=y").unwrap()["name"], "y");
        let guests = |text| set(text).unwrap()["guests"].clone();
        assert_eq!(guests("guests.web.count=8")[0]["count"], 8);
        assert_eq!(guests("guests[1].vcpus=2")[1]["vcpus"], 2);
        assert_eq!(
            guests("guests.web.workload.zero=9 %")[0]["workload"]["zero"],
            "9 %"
        );
        assert_eq!(
            guests("guests.linux.linux.run[0]=b")[1]["linux"]["run"],
            json!(["b"])
        );
        assert_eq!(
            set("scanner.interval=4 s").unwrap()["scanner"]["interval"],
            "4 s"
        );
        assert_eq!(
            set("phases.settle.until.scans=5").unwrap()["phases"],
            json!([{ "id": "settle", "until": { "scans": 5 } }, { "id": "stop", "timeout": "5 s" }])
        );
        let disks = guests("guests.web.disks=[{ image: a }]");
        assert_eq!(disks[0]["disks"][0]["image"], "a");
    }

    #[test]
    fn what_is_not_there_is_refused_with_the_nearest_name() {
        let refused = |text| set(text).unwrap_err();
        assert_eq!(
            refused("guests.web.memroy=1"),
            "`guests.web` has no field `memroy`; did you mean `memory`?"
        );
        assert_eq!(
            refused("guests.wep.memory=1"),
            "there is no `wep` in `guests`; did you mean `web`?"
        );
        assert_eq!(refused("guests[7].memory=1"), "`guests` has no item 7; ");
        assert_eq!(
            refused("phases.setle.timeout=1 s"),
            "there is no `setle` in `phases`; "
        );
        assert!(refused("guests.web.workload.jobs=1").contains("no field `jobs`"));
        assert_eq!(refused("name.first=x"), "`name` has no fields; ");
        assert_eq!(refused("seed"), "there is no `=`");
        assert_eq!(refused("seed="), "there is no value");
        assert_eq!(refused("a..b=1"), "this is no path; ");
        assert_eq!(refused("guests[x].memory=1"), "this is no path; ");
    }

    #[test]
    fn a_value_keeps_its_place_on_the_command_line() {
        let setting = Setting::parse("a.b=[x, y]", 3).unwrap();
        let Value::List(items) = &setting.value.value else {
            panic!("{setting:?}")
        };
        let place = Mark {
            line: 1,
            column: 9,
            length: 1,
        };
        assert_eq!(items[1].mark, place.in_setting(3));
    }
}
