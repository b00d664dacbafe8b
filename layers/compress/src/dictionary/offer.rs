//! Which difference a response may be sent as.

use http::{HeaderMap, Method, Uri};

use super::{AVAILABLE_DICTIONARY, AskedDictionary, Delta, DictionaryCoding};
use crate::accept::{AcceptEncoding, Weight};
use crate::encoding::Encoding;
use crate::policy::Policy;

impl Policy {
    /// What a request says of dictionaries; `None` if it names none, or there are none.
    pub fn asked_dictionary(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Option<AskedDictionary> {
        let settings = self.settings().dictionaries.as_ref()?;
        let names_one = headers.contains_key(&AVAILABLE_DICTIONARY);
        names_one.then(|| AskedDictionary::of(method, uri, headers, &settings.known)).flatten()
    }

    /// The form that is told by a dictionary, of those that `make` can make, if the client wants it no
    /// less than the one in `encoding`, or than the plain one; for content of `len` bytes, if that is
    /// known.
    ///
    /// Of two that the client wants alike, it is the one whose [base](DictionaryCoding::base) comes first
    /// among the codings for such responses.
    pub fn delta(
        &self,
        accept: &AcceptEncoding,
        response: &HeaderMap,
        encoding: Option<Encoding>,
        len: Option<u64>,
        make: impl Fn(DictionaryCoding) -> Option<Delta>,
    ) -> Option<Delta> {
        if len.is_some_and(|len| len < self.settings().min_size) {
            return None;
        }
        let other = encoding.map_or_else(|| accept.weight_of_plain(), |it| accept.weight(it));
        let mut best: Option<(Delta, Weight)> = None;
        for coding in self.offered(response).iter().copied().filter_map(DictionaryCoding::of) {
            let weight = accept.weight_with_dictionary(coding);
            let is_best = best.as_ref().is_none_or(|(_, other)| weight > *other);
            if weight.accepts() && weight >= other && is_best {
                best = make(coding).map(|delta| (delta, weight)).or(best);
            }
        }
        best.map(|(delta, _)| delta)
    }
}
