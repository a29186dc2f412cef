//! What is wrong with a configuration, shown where it stands: file:line:col, the line, a caret.

use std::fmt::{self, Write as _};
use std::ops::Range;

/// One thing that the operator should change. The span is in bytes of the file; none if the command line said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Where the cause stands in the text.
    pub(crate) span: Option<Range<usize>>,
    /// What is wrong and, where it can be said, what would be right.
    pub(crate) message: String,
    /// A warning does not keep the proxy from starting.
    pub(crate) is_warning: bool,
}

/// A configuration's name and text, to point into.
#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    /// The file as the operator named it; empty for the command line.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
}

/// A configuration that cannot be used: every problem that was found, rendered.
#[derive(Debug)]
pub(crate) struct ConfigError(pub(crate) String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim_end())
    }
}

impl std::error::Error for ConfigError {}

impl Source {
    /// Every problem with its picture, in the order of the file. The first line says it all.
    pub(crate) fn render(&self, problems: &[Problem]) -> Vec<String> {
        let mut sorted: Vec<&Problem> = problems.iter().collect();
        sorted.sort_by_key(|problem| problem.span.as_ref().map(|span| span.start));
        sorted.into_iter().map(|problem| self.render_one(problem)).collect()
    }

    fn render_one(&self, problem: &Problem) -> String {
        let severity = if problem.is_warning { "warning: " } else { "" };
        let message = &problem.message;
        match &problem.span {
            Some(span) => self.quote(span, &format!("{severity}{message}")),
            None if self.name.is_empty() => format!("{severity}{message}\n"),
            None => format!("{}: {severity}{message}\n", self.name),
        }
    }

    /// The first line of the span with carets under it.
    fn quote(&self, span: &Range<usize>, message: &str) -> String {
        let start = self.text.floor_char_boundary(span.start.min(self.text.len()));
        let line_start = self.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |newline| start + newline);
        let line = self.text[line_start..line_end].trim_end();
        let number = self.text[..start].matches('\n').count() + 1;
        let before = &self.text[line_start..start];
        let end = self.text.floor_char_boundary(span.end.clamp(start, line_start + line.len().max(start - line_start)));
        let carets = self.text[start..end].chars().count().max(1);

        let mut out = String::new();
        // Tabs are kept in front of the carets, so that they stand right whatever a tab is wide.
        let indent: String = before.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let gutter = " ".repeat(number.to_string().len());
        let column = before.chars().count() + 1;
        let _ = writeln!(out, "{}:{number}:{column}: {message}", self.name);
        let _ = writeln!(out, " {number} | {line}");
        let _ = writeln!(out, " {gutter} | {indent}{}", "^".repeat(carets));
        out
    }
}

/// Turns a TOML error into a problem; serde's list of what it expected becomes one suggestion.
pub(crate) fn from_toml(error: &toml::de::Error) -> Problem {
    let message = error.message();
    let mut names = message.split('`').skip(1).step_by(2);
    let message = match (message, names.next()) {
        (text, Some(wrong)) if text.starts_with("unknown field") => unknown("key", wrong, names),
        (text, Some(wrong)) if text.starts_with("unknown variant") => unknown("value", wrong, names),
        (text, Some(key)) if text.starts_with("missing field") => format!("`{key}` is missing"),
        (text, _) => text.replace("invalid type: ", "found ").replace("a sequence", "an array"),
    };
    Problem { span: error.span(), message, is_warning: false }
}

/// "unknown key `pipline`, did you mean `pipeline`?", or the names that are known if none is near.
pub(crate) fn unknown<'a>(what: &str, wrong: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let nearest = known
        .iter()
        .map(|name| (strsim::jaro_winkler(wrong, name), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|left, right| left.0.total_cmp(&right.0));
    match nearest {
        Some((_, name)) => format!("unknown {what} `{wrong}`, did you mean `{name}`?"),
        None if known.is_empty() => format!("unknown {what} `{wrong}`; there are none"),
        None => format!("unknown {what} `{wrong}`; there are {}", list(&known)),
    }
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{Problem, Source, unknown};

    fn at(span: std::ops::Range<usize>) -> Problem {
        Problem { span: Some(span), message: "no".into(), is_warning: false }
    }

    #[test]
    fn a_caret_stands_under_its_cause() {
        let source = Source { name: "a.toml".into(), text: "x = 1\n\tö = \"y\"\n".into() };
        assert_eq!(source.render(&[at(7..9)]), ["a.toml:2:2: no\n 2 | \tö = \"y\"\n   | \t^\n"]);
        assert_eq!(source.render(&[at(4..9)]), ["a.toml:1:5: no\n 1 | x = 1\n   |     ^\n"]);
    }

    #[test]
    fn any_span_can_be_shown() {
        let source = Source { name: "a.toml".into(), text: "é\n\nb".into() };
        for start in 0..8 {
            for end in start..9 {
                assert!(source.render(&[at(start..end)])[0].starts_with("a.toml:"), "{start}..{end}");
            }
        }
    }

    #[test]
    fn the_nearest_name_is_suggested() {
        let known = ["name", "listen", "pipeline"];
        assert!(unknown("key", "pipline", known.into_iter()).ends_with("did you mean `pipeline`?"));
        assert!(unknown("key", "zzz", known.into_iter()).ends_with("there are `name`, `listen`, `pipeline`"));
    }
}
