//! Lists of the host's CPUs, in the kernel's own form.

use serde::Serialize;

use super::describe::Shape;
use super::reader::{At, FromNode};
use super::text::{Node, Value};

/// CPUs above this number are not thought of: the kernel's own limit is 8192.
const MOST: u32 = 8191;

/// CPUs of the host, by number, each once and in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CpuList(pub Vec<u32>);

impl CpuList {
    /// A list such as `0-3,6` (cpuset(7), "List format"); `None` for anything else, and for none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut cpus = Vec::new();
        for part in text.trim().split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |word: &str| word.parse::<u32>().ok().filter(|cpu| *cpu <= MOST);
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return None;
            }
            cpus.extend(first..=last);
        }
        cpus.sort_unstable();
        cpus.dedup();
        Some(Self(cpus))
    }
}

impl FromNode for CpuList {
    fn shape() -> Shape {
        let text = Shape::Text {
            name: "CPU list",
            pattern: "^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$",
        };
        let one = Shape::Number {
            least: 0,
            most: MOST.into(),
        };
        Shape::Either(vec![text, one])
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let text = match &node.value {
            Value::Text(text) => text.clone(),
            Value::Integer(cpu) => cpu.to_string(),
            _ => String::new(),
        };
        Self::parse(&text).or_else(|| {
            let problem = at.problem("this is no list of CPUs");
            at.report(problem.expected(format!("such as `0-3,6`, numbers up to {MOST}")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_form_is_read_and_no_other() {
        let cpus = |text| CpuList::parse(text).map(|list| list.0);
        assert_eq!(cpus("6,0-2,1\n"), Some(vec![0, 1, 2, 6]));
        for wrong in ["", "a", "3-1", "1-", "-1", "0,,1", "9000", "0-4294967296"] {
            assert_eq!(cpus(wrong), None, "{wrong}");
        }
    }
}
