//! The tags of a response: from the handler's extension, and from the fields that origins and CDNs
//! use for the same purpose.

use http::{Extensions, HeaderMap};
use tower_keep_store::{MAX_TAGS, Tag};

/// The tags of a response, under which it can be dropped with
/// [`Store::invalidate_tag`](tower_keep_store::Store::invalidate_tag).
///
/// A handler puts it into the extensions of its response; with the feature `axum` it is a response
/// part.
///
/// ```
/// use http::Response;
/// use tower_keep_cache::CacheTags;
///
/// let mut response = Response::new("…");
/// response.extensions_mut().insert(CacheTags::from(["products", "product:42"]));
/// ```
///
/// The fields `Surrogate-Key` (separated by spaces), `Cache-Tag` (by commas) and `xkey` (by either)
/// count just as much; so do, for responses of the same origin, the groups of `Cache-Groups`, which an
/// unsafe request invalidates by `Cache-Group-Invalidation` (RFC 9875). A response with more than 64 tags, or one that can't be a tag, is not stored: it
/// could not be dropped as it asks to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheTags(Vec<String>);

impl CacheTags {
    /// No tags.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tag.
    pub fn push(&mut self, tag: impl Into<String>) {
        self.0.push(tag.into());
    }
}

impl<T: Into<String>> FromIterator<T> for CacheTags {
    fn from_iter<I: IntoIterator<Item = T>>(tags: I) -> Self {
        Self(tags.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<String>> Extend<T> for CacheTags {
    fn extend<I: IntoIterator<Item = T>>(&mut self, tags: I) {
        self.0.extend(tags.into_iter().map(Into::into));
    }
}

impl<T: Into<String>, const N: usize> From<[T; N]> for CacheTags {
    fn from(tags: [T; N]) -> Self {
        tags.into_iter().collect()
    }
}

#[cfg(feature = "axum")]
impl axum_core::response::IntoResponseParts for CacheTags {
    type Error = std::convert::Infallible;

    fn into_response_parts(
        self,
        mut response: axum_core::response::ResponseParts,
    ) -> Result<axum_core::response::ResponseParts, Self::Error> {
        // Several parts add up.
        let present = response.extensions_mut().get_or_insert_default::<Self>();
        present.extend(self.0);
        Ok(response)
    }
}

/// What a response says about its tags.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) tags: Vec<Tag>,
    /// There were too many, or one that can't be a tag.
    pub(crate) overflow: bool,
}

/// All tags of a response, each once.
pub(crate) fn collect_tags(extensions: &Extensions, headers: &HeaderMap) -> Collected {
    let mut collected = Collected::default();
    let own = extensions.get::<CacheTags>();
    for tag in own.iter().flat_map(|tags| &tags.0) {
        collected.add(tag.as_bytes());
    }
    for (name, by_comma, by_space) in
        [("surrogate-key", false, true), ("cache-tag", true, false), ("xkey", true, true)]
    {
        for line in headers.get_all(name) {
            let divides =
                |byte: &u8| (by_comma && *byte == b',') || (by_space && byte.is_ascii_whitespace());
            for tag in
                line.as_bytes().split(divides).map(<[u8]>::trim_ascii).filter(|tag| !tag.is_empty())
            {
                collected.add(tag);
            }
        }
    }
    collected
}

impl Collected {
    fn add(&mut self, name: &[u8]) {
        let Some(tag) = std::str::from_utf8(name).ok().and_then(|name| Tag::new(name).ok()) else {
            self.overflow = true;
            return;
        };
        if self.tags.contains(&tag) {
            return;
        }
        if self.tags.len() == MAX_TAGS {
            self.overflow = true;
            return;
        }
        self.tags.push(tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(collected: &Collected) -> Vec<&str> {
        collected.tags.iter().map(Tag::as_str).collect()
    }

    #[test]
    fn every_source_counts_once() {
        let mut extensions = Extensions::new();
        extensions.insert(CacheTags::from(["own", "shared"]));
        let headers = HeaderMap::from_iter(
            [("surrogate-key", "a  shared"), ("cache-tag", "with space, b,"), ("xkey", "c d,e")]
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())),
        );
        let collected = collect_tags(&extensions, &headers);
        assert_eq!(names(&collected), ["own", "shared", "a", "with space", "b", "c", "d", "e"]);
        assert!(!collected.overflow);
    }

    #[test]
    fn what_cannot_be_a_tag_or_is_too_much_is_said() {
        let with = |tags: CacheTags| {
            let mut extensions = Extensions::new();
            extensions.insert(tags);
            collect_tags(&extensions, &HeaderMap::new())
        };
        assert!(with(CacheTags::from(["a", ""])).overflow);
        assert!(with((0..=MAX_TAGS).map(|i| i.to_string()).collect()).overflow);
        assert!(!with((0..MAX_TAGS).map(|i| i.to_string()).collect()).overflow);
    }

    proptest! {
        #[test]
        fn no_line_panics(line: Vec<u8>) {
            if let Ok(value) = http::HeaderValue::from_bytes(&line) {
                let headers = HeaderMap::from_iter(["surrogate-key", "cache-tag", "xkey"].map(|name| (name.parse().unwrap(), value.clone())));
                collect_tags(&Extensions::new(), &headers);
            }
        }
    }
}
