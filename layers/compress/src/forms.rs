//! For whoever keeps compressed forms beside a response: which ones it may have, and their heads.

use http::HeaderMap;
use http::header::CONTENT_LENGTH;

use crate::accept::AcceptEncoding;
use crate::encoding::Encoding;
use crate::etag::{self, Mapped};
use crate::fields;
use crate::form::Form;
use crate::policy::{Policy, Reason, ResponseHead, add_vary};

/// The forms that a response may have, whoever asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    encodings: [Option<Encoding>; Encoding::ALL.len()],
    is_short: bool,
}

impl Offer {
    /// The form for a client; `None` is the plain one.
    ///
    /// ```
    /// use http::{Extensions, HeaderMap, StatusCode, header::CONTENT_TYPE};
    /// use tower_keep_compress::{AcceptEncoding, CompressLayer, Encoding, ResponseHead};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let policy = CompressLayer::builder().encodings([Encoding::Gzip]).build()?.policy().clone();
    /// let headers = HeaderMap::from_iter([(CONTENT_TYPE, "text/html".parse()?)]);
    /// let extensions = Extensions::new();
    /// let head = ResponseHead::new(StatusCode::OK, &headers, &extensions);
    /// let offer = policy.offer(&head, 10_000).expect("it is text");
    /// let of = |line: &str| offer.choose(&AcceptEncoding::parse([line.as_bytes()]));
    /// assert_eq!((of("gzip, br"), of("br")), (Some(Encoding::Gzip), None));
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn choose(&self, accept: &AcceptEncoding) -> Option<Encoding> {
        let chosen = accept.choose(self.encodings.iter().copied().flatten());
        chosen.filter(|_| !self.is_short || !accept.accepts_identity())
    }
}

/// What a client asks about a response by its entity tags, those of its forms among them.
#[derive(Debug)]
pub struct Conditions {
    /// The fields of the request, with the tags of the plain form beside those that were made from it.
    pub fields: HeaderMap,
    mapped: Mapped,
    accept: AcceptEncoding,
}

impl Policy {
    /// The forms that a complete response of `len` bytes with this head may have, whatever the request.
    /// A stored head has lost its extensions: what they say, [`is_left`](Self::is_left) must be asked
    /// before.
    ///
    /// # Errors
    ///
    /// Why it has none but its own.
    pub fn offer(&self, head: &ResponseHead<'_>, len: u64) -> Result<Offer, Reason> {
        if let Some(reason) = self.settings().excluded_by_head(head) {
            return Err(reason);
        }
        let mut encodings = [None; Encoding::ALL.len()];
        for (place, encoding) in encodings.iter_mut().zip(self.offered(head.headers())) {
            *place = Some(*encoding);
        }
        Ok(Offer { encodings, is_short: len < self.settings().min_size })
    }

    /// Whether a response is to be left alone for what its extensions say: it has
    /// [`LeaveUncompressed`](crate::LeaveUncompressed), or the
    /// [predicate](crate::CompressLayerBuilder::when) says no.
    pub fn is_left(&self, head: &ResponseHead<'_>) -> bool {
        matches!(self.settings().left(head), Some(Reason::Marked | Reason::Predicate))
    }

    /// Makes the head of a plain form that of the encoded one, without its length.
    pub fn make_encoded(&self, response: &mut HeaderMap, encoding: Encoding) {
        let form = Form::Coding(encoding);
        fields::make_encoded(response, &form, self.settings().entity_tags);
        self.add_vary(response);
    }

    /// Makes the head of a plain form that of its difference from a dictionary, without its length.
    #[cfg(feature = "dictionary")]
    pub fn make_delta(&self, response: &mut HeaderMap, delta: &crate::dictionary::Delta) {
        let form = Form::Delta(delta.clone());
        fields::make_encoded(response, &form, self.settings().entity_tags);
    }

    /// Makes the head of an encoded form that of the plain one, which has `len` bytes. Its entity tag
    /// is made weak, for it belongs to the other bytes.
    pub fn make_plain(&self, response: &mut HeaderMap, len: usize) {
        fields::make_decoded(response);
        etag::weaken(response);
        self.add_vary(response);
        response.insert(CONTENT_LENGTH, len.into());
    }

    /// Says in `Vary` that there are several forms, by dictionaries as well if the response is one itself.
    pub fn add_vary(&self, response: &mut HeaderMap) {
        add_vary(response);
        #[cfg(feature = "dictionary")]
        if self.settings().dictionaries.is_some()
            && response.contains_key(crate::dictionary::USE_AS_DICTIONARY)
        {
            crate::policy::add_vary_by(response, &crate::dictionary::AVAILABLE_DICTIONARY);
        }
    }

    /// The conditions of a request that names a form by its entity tag; `None` if it names none, so that
    /// it can be taken as it is.
    pub fn conditions(&self, request: &HeaderMap, accept: &AcceptEncoding) -> Option<Conditions> {
        let mut fields = request.clone();
        let mapped = etag::map_conditions(&mut fields, self.settings().entity_tags, accept)?;
        Some(Conditions { fields, mapped, accept: *accept })
    }

    /// Whether a request asks for the rest of what may be the beginning of an encoded form: by a date,
    /// which is that of all forms. It must get the whole, as if it had no `Range`.
    pub fn may_continue_encoded(&self, request: &HeaderMap, accept: &AcceptEncoding) -> bool {
        etag::continues_by_date(request) && self.may_encode(accept)
    }

    /// Removes from trailers what is true of the plain form alone, or of the encoded one.
    pub fn recode_trailers(&self, trailers: &mut HeaderMap) {
        fields::remove_digests(trailers);
    }

    /// Gives the head of a 304 the entity tag of the form that the client has.
    pub fn restore(&self, conditions: &Conditions, response: &mut HeaderMap) {
        let offered = self.offered(response);
        if conditions.mapped.restore(response, &conditions.accept, offered) {
            // RFC 9110 §15.4.5: as 200 would have said it.
            self.add_vary(response);
        }
    }
}
