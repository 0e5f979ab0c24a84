//! One problem of an experiment file, and how it is shown.

use std::fmt::Write as _;

/// A place in the text; lines and columns count from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Line.
    pub line: u32,
    /// Column of the first character.
    pub column: u32,
    /// Characters.
    pub length: u32,
}

impl Mark {
    /// The first character of the file.
    pub const START: Self = Self {
        line: 1,
        column: 1,
        length: 1,
    };

    /// The same place in the command line's setting of that number, from 0, instead of in the file.
    #[must_use]
    pub fn in_setting(self, number: usize) -> Self {
        let line = u32::try_from(number).map_or(u32::MAX, |number| SETTINGS | number);
        Self { line, ..self }
    }

    /// The number of the command line's setting that it is in; `None` for a place in the file.
    pub fn setting(self) -> Option<usize> {
        let number = self.line.checked_sub(SETTINGS)?;
        usize::try_from(number).ok()
    }
}

/// Lines from here on are no lines of a file, which has 2^20 characters at most.
const SETTINGS: u32 = 1 << 31;

/// Where marks point to.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The file's name.
    pub file: &'a str,
    /// Its text.
    pub text: &'a str,
    /// What the command line changed of it, `path=value` each.
    pub settings: &'a [String],
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The experiment can't be run.
    Error,
    /// The host can't run the experiment, though the file is sound.
    Host,
    /// It can, but probably not as meant.
    Warning,
}

/// One problem: what, where, what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is.
    pub mark: Mark,
    /// Path of the field, such as `guests[0].memory`; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub expected: Option<String>,
    /// What the writer may have meant, or what to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error at that place.
    #[must_use]
    pub fn new(mark: Mark, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            mark,
            path: String::new(),
            message: message.into(),
            expected: None,
            help: None,
        }
    }

    /// With another severity.
    #[must_use]
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// With the path of its field.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// With what would be right.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// With what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With the known name that is nearest to what was written, if any is near.
    #[must_use]
    pub fn nearest<'a>(self, written: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(written, known) {
            Some(name) => self.help(format!("did you mean `{name}`?")),
            None => self,
        }
    }

    /// The problem as a user sees it: place, message, the line with a caret, what would be right.
    #[must_use]
    pub fn render(&self, source: Source<'_>) -> String {
        let Mark { line, column, .. } = self.mark;
        let setting = self.mark.setting();
        let place = match setting {
            Some(_) => format!("--set:{column}"),
            None => format!("{}:{line}:{column}", source.file),
        };
        let shown = match setting {
            Some(number) => source.settings.get(number).map(String::as_str),
            None => source.text.lines().nth(line.saturating_sub(1) as usize),
        };
        let word = match self.severity {
            Severity::Error | Severity::Host => "error",
            Severity::Warning => "warning",
        };
        let path = if self.path.is_empty() {
            String::new()
        } else {
            format!("`{}`: ", self.path)
        };
        let mut out = format!("{place}: {word}: {path}{}\n", self.message);
        if let Some(shown) = shown {
            let number = setting.map_or_else(|| line.to_string(), |_| String::new());
            self.render_line(&mut out, &number, shown);
        }
        for (label, note) in [("expected", &self.expected), ("help", &self.help)] {
            if let Some(note) = note {
                let _ = writeln!(out, "      = {label}: {note}");
            }
        }
        out
    }

    fn render_line(&self, out: &mut String, number: &str, source: &str) {
        let before = self.mark.column.saturating_sub(1) as usize;
        // A tab keeps its width under the line above it.
        let indent: String = source
            .chars()
            .take(before)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let rest = source.chars().count().saturating_sub(before);
        // Control characters would garble the terminal, and the caret's place.
        let shown: String = source
            .chars()
            .map(|c| {
                if c.is_control() && c != '\t' {
                    '\u{fffd}'
                } else {
                    c
                }
            })
            .collect();
        let carets = (self.mark.length as usize).clamp(1, rest.max(1));
        let _ = writeln!(out, " {number:>4} | {shown}");
        let _ = writeln!(out, "      | {indent}{}", "^".repeat(carets));
    }
}

/// The known name nearest to `written`, if it is near enough to have been meant.
#[must_use]
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| {
            (
                strsim::jaro_winkler(&written.to_lowercase(), &name.to_lowercase()),
                name,
            )
        })
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source<'a>(file: &'a str, text: &'a str) -> Source<'a> {
        Source {
            file,
            text,
            settings: &[],
        }
    }

    #[test]
    fn a_setting_of_the_command_line_is_shown_as_it_was_given() {
        let mark = Mark {
            line: 1,
            column: 6,
            length: 2,
        };
        let settings = ["a=1".to_owned(), "b.cd=xy".to_owned()];
        let problem = Diagnostic::new(mark.in_setting(1), "wrong").at("b.cd");
        let shown = problem.render(Source {
            settings: &settings,
            ..source("f", "one line")
        });
        assert_eq!(
            shown,
            "--set:6: error: `b.cd`: wrong\n      | b.cd=xy\n      |      ^^\n"
        );
    }

    #[test]
    fn the_caret_stands_under_the_value() {
        let mark = Mark {
            line: 2,
            column: 9,
            length: 3,
        };
        let shown = Diagnostic::new(mark, "no unit")
            .at("memory")
            .render(source("a.yaml", "x: 1\nmemory: 128\n"));
        assert_eq!(
            shown,
            "a.yaml:2:9: error: `memory`: no unit\n    2 | memory: 128\n      |         ^^^\n"
        );
    }

    #[test]
    fn near_names_only() {
        assert_eq!(nearest("memroy", ["memory", "count"]), Some("memory"));
        assert_eq!(nearest("Mib", ["KiB", "MiB"]), Some("MiB"));
        assert_eq!(nearest("zzz", ["memory", "count"]), None);
    }

    #[test]
    fn a_mark_outside_the_text_is_harmless() {
        let mark = Mark {
            line: 9,
            column: 900,
            length: 9,
        };
        assert!(
            Diagnostic::new(mark, "m")
                .render(source("f", "one line"))
                .starts_with("f:9:900: error: m")
        );
    }
}
