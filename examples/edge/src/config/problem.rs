//! What is wrong with a configuration: where in the file, and what would be right.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// A part of the file, in bytes.
pub(crate) type Span = Range<usize>;

#[derive(Debug)]
struct Problem {
    title: String,
    at: Span,
    label: String,
    /// Another place that it is about.
    other: Option<(Span, String)>,
}

/// All that was found so far.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    found: RefCell<Vec<Problem>>,
    /// The keys that could have been set, for the test of the example.
    #[cfg(test)]
    pub(super) known: RefCell<std::collections::BTreeSet<String>>,
}

impl Problems {
    /// `title` says what is wrong, and `label`, at the place, what would be right.
    pub(crate) fn add(&self, at: Span, title: impl Into<String>, label: impl Into<String>) {
        let problem = Problem { title: title.into(), at, label: label.into(), other: None };
        self.found.borrow_mut().push(problem);
    }

    /// As [`add`](Self::add), for what is wrong only together with another part of the file.
    pub(crate) fn add_with(
        &self,
        at: Span,
        title: impl Into<String>,
        label: impl Into<String>,
        other: (Span, &str),
    ) {
        let other = Some((other.0, other.1.to_owned()));
        let problem = Problem { title: title.into(), at, label: label.into(), other };
        self.found.borrow_mut().push(problem);
    }

    /// All of them as one error, if there are any: in the order of the file, in the form of rustc.
    pub(crate) fn check(self, path: &Path, source: &str) -> Result<(), Invalid> {
        let mut found = self.found.into_inner();
        if found.is_empty() {
            return Ok(());
        }
        found.sort_by_key(|problem| problem.at.start);
        let path = path.display().to_string();
        let renderer = Renderer::plain();
        let one = |problem: &Problem| {
            let at = AnnotationKind::Primary.span(within(&problem.at, source));
            let snippet = Snippet::source(source).path(path.as_str());
            let snippet = snippet.annotation(at.label(problem.label.as_str()));
            let snippet = match &problem.other {
                Some((at, label)) => snippet.annotation(
                    AnnotationKind::Context.span(within(at, source)).label(label.as_str()),
                ),
                None => snippet,
            };
            renderer.render(&[Level::ERROR.primary_title(problem.title.as_str()).element(snippet)])
        };
        let texts: Vec<_> = found.iter().map(one).collect();
        Err(Invalid(texts.join("\n\n")))
    }
}

/// On the one line where it begins: a table of many lines is known by its head.
fn within(at: &Span, source: &str) -> Span {
    let start = at.start.min(source.len());
    let rest = source.get(start..at.end.min(source.len())).unwrap_or_default();
    let line = rest.find('\n').unwrap_or(rest.len());
    start..start + line
}

/// Why a configuration can't be used, for people.
#[derive(Debug)]
pub(crate) struct Invalid(pub(crate) String);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}
