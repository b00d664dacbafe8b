//! Entity tags of encoded forms, and of those, in the conditions of clients, what they were made from.
//!
//! A strong entity tag belongs to the very bytes, so an encoded form needs another than the plain one
//! (RFC 9110 §8.8.1, §8.8.3.3). Servers that changed it, and did not change it back when a client
//! came with it, never answered 304 again (Apache's bugs 39727 and 45023).

use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH, IF_RANGE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::accept::AcceptEncoding;
#[cfg(feature = "dictionary")]
use crate::dictionary::AVAILABLE_DICTIONARY;
use crate::encoding::Encoding;
use crate::field::{Members, trim};
use crate::form::Mark;
#[cfg(feature = "dictionary")]
use crate::policy::add_vary_by;

/// What becomes of the entity tag of a response that is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntityTags {
    /// `"abc"` becomes `"abc--br"`: strong, and another for each coding. What clients send back is
    /// recognised. The default.
    ///
    /// The same content can be other bytes from time to time, as its level or its pauses change, under
    /// the same tag. Here no range of an encoded form is ever sent; where a cache outside cuts ranges of
    /// what it got encoded, and gets it from several nodes, choose the other.
    #[default]
    Suffix,
    /// `"abc"` becomes `W/"abc"`, as nginx does it. `If-Match` can't use it any more (RFC 9110
    /// §13.1.1), nor `If-Range`.
    Weaken,
}

/// Between the tag of the plain form and the name of the coding.
const MARK: &[u8] = b"--";

/// Of how many tags of one field the plain form is looked for; the others are left as they are.
const MAX_MAPPED: usize = 16;

/// The entity tags that a client sent of encoded forms: what the inner service knows them by.
#[derive(Debug)]
pub(crate) struct Mapped {
    /// The tag as the inner service knows it, without its weakness, and the mark that it had; none if it
    /// was weakened.
    tags: Vec<(Vec<u8>, Option<Mark>)>,
}

/// Whether a request asks for the rest of what it has if that is of some date. A date is that of all
/// forms, so what it has may be the beginning of an encoded one.
pub(crate) fn continues_by_date(request: &HeaderMap) -> bool {
    let is_tag = |value: &HeaderValue| opaque(value.as_bytes()).starts_with(b"\"");
    request.get(IF_RANGE).is_some_and(|validator| !is_tag(validator))
}

/// Adds to the conditions of a request the tags from which those of encoded forms were made. They
/// stay there, too: the mark might be the inner service's own.
///
/// Only tags of forms that the client can read now are looked at: 304 says that it may use what it has,
/// and a shared cache has what another client could read, of another coding or by another dictionary.
///
/// `If-Range` is left alone: a range is of the plain form, so a client with a part of an encoded one
/// must get the whole.
pub(crate) fn map_conditions(
    request: &mut HeaderMap,
    tags: EntityTags,
    accept: &AcceptEncoding,
) -> Option<Mapped> {
    let mut mapped = Vec::new();
    add_plain(request, &IF_NONE_MATCH, tags, accept, &mut mapped);
    if tags == EntityTags::Suffix {
        // What the inner service does to such a request is not about a form that the client has.
        add_plain(request, &IF_MATCH, tags, accept, &mut Vec::new());
    }
    (!mapped.is_empty()).then_some(Mapped { tags: mapped })
}

fn add_plain(
    request: &mut HeaderMap,
    name: &HeaderName,
    tags: EntityTags,
    accept: &AcceptEncoding,
    mapped: &mut Vec<(Vec<u8>, Option<Mark>)>,
) {
    let mut added: Vec<u8> = Vec::new();
    let readable = Readable::of(request, accept);
    for line in request.get_all(name) {
        for member in Members::of_entity_tags(line.as_bytes()) {
            let Some((plain, form)) = plain_of(member, tags) else { continue };
            if form.is_some_and(|form| !readable.has(form)) {
                continue;
            }
            if mapped.len() >= MAX_MAPPED {
                break;
            }
            if !added.is_empty() {
                added.extend_from_slice(b", ");
            }
            added.extend_from_slice(&plain);
            mapped.push((opaque(&plain).to_vec(), form));
        }
    }
    if let Ok(value) = HeaderValue::from_bytes(&added)
        && !added.is_empty()
    {
        request.append(name, value);
    }
}

/// Which forms a client can read.
struct Readable<'a> {
    accept: &'a AcceptEncoding,
    #[cfg(feature = "dictionary")]
    dictionary: Option<[u8; 32]>,
}

impl<'a> Readable<'a> {
    #[cfg_attr(not(feature = "dictionary"), expect(unused_variables, reason = "there are none"))]
    fn of(request: &HeaderMap, accept: &'a AcceptEncoding) -> Self {
        Self {
            accept,
            #[cfg(feature = "dictionary")]
            dictionary: crate::dictionary::available(request),
        }
    }

    fn has(&self, form: Mark) -> bool {
        #[cfg(feature = "dictionary")]
        if let Mark::Delta(_, hash) = form {
            let begins = |known: [u8; 32]| known.starts_with(&hash);
            return self.dictionary.is_some_and(begins) && form.weight(self.accept).accepts();
        }
        form.weight(self.accept).accepts()
    }
}

/// The tag that an encoded form's was made from, if it looks like one.
fn plain_of(tag: &[u8], tags: EntityTags) -> Option<(Vec<u8>, Option<Mark>)> {
    let inner = trim(tag).strip_suffix(b"\"")?;
    match tags {
        EntityTags::Weaken => {
            // Compared weakly they are the same, but not every service compares.
            let strong = inner.strip_prefix(b"W/")?;
            strong.starts_with(b"\"").then(|| ([strong, b"\""].concat(), None))
        }
        EntityTags::Suffix => {
            let at = inner.windows(MARK.len()).rposition(|window| window == MARK)?;
            let (plain, marked) = inner.split_at_checked(at)?;
            let form = Mark::parse(marked.strip_prefix(MARK)?)?;
            // `"--br"` is no tag with a mark, but one that is nothing else.
            let has_content = opaque(plain).len() > 1;
            has_content.then(|| ([plain, b"\""].concat(), Some(form)))
        }
    }
}

/// The tag from which that of an encoded form was made, if it is one, or else the tag itself.
#[cfg(feature = "dictionary")]
pub(crate) fn unmarked(tag: &[u8], tags: EntityTags) -> Vec<u8> {
    plain_of(tag, tags).map_or_else(|| tag.to_vec(), |(plain, _)| plain)
}

impl Mapped {
    /// Gives a 304 the tag of the form that the client has. Whether the answer is about one.
    pub(crate) fn restore(
        &self,
        response: &mut HeaderMap,
        accept: &AcceptEncoding,
        offered: &[Encoding],
    ) -> bool {
        let Some(etag) = response.get(ETAG) else { return false };
        let known = opaque(etag.as_bytes());
        let of_this = self.tags.iter().filter(|(plain, _)| plain == known).map(|(_, form)| *form);
        // Of several that it has, the one that it would be sent.
        let rank = |form: &Option<Mark>| {
            let form = (*form)?;
            let place = offered.iter().position(|other| *other == form.base());
            Some((form.weight(accept), std::cmp::Reverse(place.unwrap_or(usize::MAX))))
        };
        let Some(form) = of_this.max_by_key(rank) else { return false };
        mark(response, form);
        #[cfg(feature = "dictionary")]
        if let Some(Mark::Delta(..)) = form {
            // RFC 9110 §15.4.5: as 200 would have said it.
            add_vary_by(response, &AVAILABLE_DICTIONARY);
        }
        true
    }
}

/// Gives a response that is encoded the entity tag of that form.
pub(crate) fn change(response: &mut HeaderMap, form: Mark, tags: EntityTags) {
    mark(response, (tags == EntityTags::Suffix).then_some(form));
}

/// Gives a response a tag that says no more than that the content is the same.
pub(crate) fn weaken(response: &mut HeaderMap) {
    mark(response, None);
}

/// Gives the entity tag a mark, or else makes it weak.
fn mark(response: &mut HeaderMap, form: Option<Mark>) {
    let Some(etag) = response.get(ETAG) else { return };
    let bytes = etag.as_bytes();
    // A weak one says that the content is the same, and it is (RFC 9110 §8.8.1).
    if bytes.starts_with(b"W/") {
        return;
    }
    let changed = match (bytes.strip_suffix(b"\""), form) {
        (Some(inner), Some(form)) if bytes.len() > 1 && bytes.starts_with(b"\"") => {
            [inner, MARK, form.text().as_bytes(), b"\""].concat()
        }
        (Some(_), None) if bytes.len() > 1 && bytes.starts_with(b"\"") => [b"W/", bytes].concat(),
        // It is none (RFC 9110 §8.8.3), and nothing could tell the two forms apart by it.
        _ => Vec::new(),
    };
    match HeaderValue::from_bytes(&changed) {
        Ok(value) if !changed.is_empty() => drop(response.insert(ETAG, value)),
        _ => drop(response.remove(ETAG)),
    }
}

/// An entity tag without its weakness.
fn opaque(etag: &[u8]) -> &[u8] {
    etag.strip_prefix(b"W/").unwrap_or(etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(line: &str) -> AcceptEncoding {
        AcceptEncoding::parse([line.as_bytes()])
    }

    fn mapped(name: &HeaderName, value: &str, tags: EntityTags) -> (Vec<String>, Option<Mapped>) {
        let mut request = HeaderMap::from_iter([(name.clone(), value.parse().unwrap())]);
        let mapped = map_conditions(&mut request, tags, &accept("br, gzip"));
        let lines = request.get_all(name).iter().map(|line| line.to_str().unwrap().to_owned());
        (lines.collect(), mapped)
    }

    fn changed(etag: &'static str, tags: EntityTags) -> Option<String> {
        let mut response = HeaderMap::from_iter([(ETAG, HeaderValue::from_static(etag))]);
        change(&mut response, Mark::Coding(Encoding::Brotli), tags);
        response.get(ETAG).map(|etag| etag.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_strong_tag_is_marked_or_weakened_and_a_weak_one_stays() {
        let of = |etag, tags| changed(etag, tags).unwrap_or_default();
        assert_eq!(of("\"abc\"", EntityTags::Suffix), "\"abc--br\"");
        assert_eq!(of("W/\"abc\"", EntityTags::Suffix), "W/\"abc\"");
        assert_eq!(of("\"abc\"", EntityTags::Weaken), "W/\"abc\"");
        assert_eq!(of("W/\"abc\"", EntityTags::Weaken), "W/\"abc\"");
        assert_eq!(of("\"\"", EntityTags::Suffix), "\"--br\"");
        for none in ["abc", "\"", "\"abc", ""] {
            assert_eq!(changed(none, EntityTags::Suffix), None, "{none}");
        }
    }

    #[test]
    fn the_plain_tag_is_added_for_codings_that_are_accepted() {
        let lines = |value: &str| mapped(&IF_NONE_MATCH, value, EntityTags::Suffix).0;
        assert_eq!(lines("\"abc--br\""), ["\"abc--br\"", "\"abc\""]);
        assert_eq!(
            lines("\"x\", W/\"abc--br\", \"a,b--gzip\""),
            ["\"x\", W/\"abc--br\", \"a,b--gzip\"", "W/\"abc\", \"a,b\""]
        );
        for other in ["\"abc--zstd\"", "\"abc\"", "*", "\"--br\"", "abc--br", "\"abc-br\"", ""] {
            assert_eq!(lines(other), [other], "{other}");
        }
        let lines = mapped(&IF_MATCH, "\"abc--br\"", EntityTags::Suffix).0;
        assert_eq!(lines, ["\"abc--br\"", "\"abc\""]);
    }

    #[test]
    fn a_weakened_tag_is_added_as_strong_where_that_changes_nothing() {
        let lines = mapped(&IF_NONE_MATCH, "W/\"abc\"", EntityTags::Weaken).0;
        assert_eq!(lines, ["W/\"abc\"", "\"abc\""]);
        assert_eq!(mapped(&IF_MATCH, "W/\"abc\"", EntityTags::Weaken).0, ["W/\"abc\""]);
    }

    #[test]
    fn a_304_gets_the_tag_of_the_form_that_the_client_has() {
        let restored = |condition: &str, tags, etag: &'static str| {
            let (_, mapped) = mapped(&IF_NONE_MATCH, condition, tags);
            let mut response = HeaderMap::from_iter([(ETAG, HeaderValue::from_static(etag))]);
            let ours = mapped.is_some_and(|mapped| {
                mapped.restore(&mut response, &accept("br, gzip"), &Encoding::ALL)
            });
            (response[ETAG].to_str().unwrap().to_owned(), ours)
        };
        let suffix = EntityTags::Suffix;
        assert_eq!(restored("\"a--gzip\"", suffix, "\"a\""), ("\"a--gzip\"".into(), true));
        assert_eq!(restored("\"a--gzip\", \"a--br\"", suffix, "\"a\""), ("\"a--br\"".into(), true));
        assert_eq!(restored("\"a--br\"", suffix, "\"a--br\""), ("\"a--br\"".into(), false));
        assert_eq!(restored("\"a\"", suffix, "\"a\""), ("\"a\"".into(), false));
        assert_eq!(restored("W/\"a\"", EntityTags::Weaken, "\"a\""), ("W/\"a\"".into(), true));
    }

    #[test]
    fn a_long_list_is_mapped_in_part() {
        let list = vec!["\"abc--br\""; 100].join(", ");
        let (lines, mapped) = mapped(&IF_NONE_MATCH, &list, EntityTags::Suffix);
        assert_eq!(lines[1], vec!["\"abc\""; MAX_MAPPED].join(", "));
        assert_eq!(mapped.unwrap().tags.len(), MAX_MAPPED);
    }
}
