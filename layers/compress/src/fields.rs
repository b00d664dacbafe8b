//! The fields of a response or a request that are about the very bytes of its content.

use http::header::{ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, HeaderName};

use crate::etag::{self, EntityTags};
use crate::form::Form;
use crate::policy::add_vary;

/// Digests of the content (RFC 9530 §2), and of the representation (§3), which is another in each
/// coding; their predecessors, of RFC 3230 and of RFC 1864.
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// Removes what is no longer true when the content has changed its coding.
pub(crate) fn remove_digests(fields: &mut HeaderMap) {
    for name in DIGESTS {
        fields.remove(name);
    }
}

/// Makes the head of a response that of its encoded form.
pub(crate) fn make_encoded(response: &mut HeaderMap, form: &Form, tags: EntityTags) {
    response.insert(CONTENT_ENCODING, form.to_header_value());
    response.remove(CONTENT_LENGTH);
    // The inner service has ranges of the plain form: a client that asked for one would get that.
    response.remove(ACCEPT_RANGES);
    remove_digests(response);
    etag::change(response, form.mark(), tags);
    add_vary(response);
    #[cfg(feature = "dictionary")]
    if matches!(form, Form::Delta(_)) {
        // RFC 9842 §6.2
        crate::policy::add_vary_by(response, &crate::dictionary::AVAILABLE_DICTIONARY);
    }
}

/// Makes the head of a message that of its plain form, after its content has been decoded.
pub(crate) fn make_decoded(fields: &mut HeaderMap) {
    fields.remove(CONTENT_ENCODING);
    fields.remove(CONTENT_LENGTH);
    remove_digests(fields);
}
