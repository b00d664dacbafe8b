//! For which requests a dictionary is meant.

use crate::error::ConfigError;

/// The `match` of a dictionary (RFC 9842 §2.1.1), as far as a server needs to know it.
///
/// It is a URL pattern, and the client has compared it before it names the dictionary. We do so again
/// where it is a path with `*`, as nearly all are. What else it may be (named groups, another base) is
/// the client's to judge: a dictionary is public, so one that misjudges harms itself alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// A path with `*`.
    Path(Box<str>),
    ByClient,
}

/// The longest pattern that is one, in bytes.
pub(super) const MAX_PATTERN: usize = 512;

impl Pattern {
    /// Reads what a handler wrote. `None` if it can't be a pattern for dictionaries.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        // Groups with regular expressions are not allowed, and nothing else has parentheses.
        if text.is_empty() || text.len() > MAX_PATTERN || text.contains('(') {
            return None;
        }
        Some(Self::path(text).unwrap_or(Self::ByClient))
    }

    /// Reads one that must be a path.
    pub(crate) fn parse_path(text: &str) -> Result<Self, ConfigError> {
        Self::path(text).ok_or_else(|| {
            ConfigError::new(format!(
                "{text:?} is no pattern for dictionaries: write a path with `*` for any characters, \
                 such as `/app/*.js`, of {MAX_PATTERN} bytes at the most"
            ))
        })
    }

    fn path(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/*-._~!$&',;=@%".contains(&byte);
        let is_path = text.starts_with('/') && !text.starts_with("//") && text.len() <= MAX_PATTERN;
        (is_path && text.bytes().all(plain)).then(|| Self::Path(text.into()))
    }

    /// Whether a request for this path may be answered by the dictionary.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let Self::Path(pattern) = self else { return true };
        let Some((first, rest)) = pattern.split_once('*') else { return path == &**pattern };
        let Some(mut left) = path.strip_prefix(first) else { return false };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        for part in middle.split('*') {
            let Some(at) = left.find(part) else { return false };
            left = left.get(at + part.len()..).unwrap_or_default();
        }
        left.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        let matches =
            |pattern: &str, path: &str| Pattern::parse_path(pattern).unwrap().matches(path);
        for (pattern, path) in [
            ("/app.js", "/app.js"),
            ("/app/*.js", "/app/v1/main.js"),
            ("/app/*/main.js", "/app/1.2/main.js"),
            ("/*", "/"),
            ("/a*b*c", "/abbc"),
            ("/a**c", "/ac"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("/app.js", "/app.js2"),
            ("/app.js", "/x/app.js"),
            ("/app/*.js", "/app/main.css"),
            ("/a*a", "/a"),
            ("/a*bc*c", "/abc"),
        ] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn what_is_no_path_is_left_to_clients_or_refused() {
        for by_client in ["main-*.js", "/:version/x.js", "https://example.com/*", "//x/*", "/a?b=*"]
        {
            assert_eq!(Pattern::parse(by_client), Some(Pattern::ByClient), "{by_client}");
            assert!(Pattern::parse_path(by_client).unwrap_err().to_string().contains("/app/*.js"));
        }
        assert_eq!(Pattern::parse(""), None);
        let long = format!("/{}", "a".repeat(MAX_PATTERN));
        assert!(Pattern::parse(&long).is_none() && Pattern::parse_path(&long).is_err());
        assert_eq!(Pattern::parse("/v(\\d+)/x.js"), None);
    }
}
