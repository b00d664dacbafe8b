//! Keys that are more, or less, than a target.

use http::header::{CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE};
use http::{HeaderName, Request};
use sha2::{Digest as _, Sha256};

use super::part::{begin, push_value, write_header};
use super::{KeyError, KeyPolicy, MAX_LEN, Sink, Target};
use crate::body_key::ContentDigest;
use crate::head::RequestHead;

/// The fields that say what the content of a request means. The last two are gRPC's own: how its
/// messages are compressed, and how those of the response may be.
const ABOUT_CONTENT: [HeaderName; 5] = [
    CONTENT_TYPE,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-accept-encoding"),
];

/// Writes the key of a request by a policy, if there is one, and its content, if that counts. Returns
/// whether the key tells its user from others.
pub(crate) fn write_whole<B>(
    request: &Request<B>,
    policy: Option<&KeyPolicy>,
    content: Option<&ContentDigest>,
    out: &mut impl Sink,
) -> Result<bool, KeyError> {
    let target = Target::of(request)?;
    let mut out = Bounded { out, left: MAX_LEN };
    match policy {
        Some(policy) => policy.narrow(&target, |target| target.write(&mut out))?,
        None => target.write(&mut out)?,
    }
    let head = RequestHead::of(request);
    let mut tells_apart = false;
    for part in policy.iter().flat_map(|policy| policy.parts()) {
        tells_apart |= part.write(&head, &mut out);
    }
    if let Some(digest) = content {
        begin(b'c', head.method().as_str().as_bytes(), &mut out);
        push_value(digest.as_hex(), &mut out);
        for name in ABOUT_CONTENT.iter().filter(|name| head.headers().contains_key(*name)) {
            write_header(name, &head, &mut out);
        }
    }
    if out.left == 0 { Err(KeyError::TooLong) } else { Ok(tells_apart) }
}

/// Each of the keys that a resource may have under a policy, as far as its target tells.
pub(crate) fn each_form<S: Sink>(
    target: &Target<'_>,
    policy: Option<&KeyPolicy>,
    new: impl FnMut() -> S,
) -> Vec<S> {
    let Some(policy) = policy else { return target.each_form(new) };
    policy.narrow(target, |target| target.each_form(new))
}

/// A digest of the resource that a target is, whatever its scheme and the parts of its keys.
///
/// Two resources with one digest would be dropped together, and nothing worse; it is cryptographic
/// nevertheless, so that nobody can choose a target by which to drop another.
pub(crate) fn resource(target: &Target<'_>, policy: Option<&KeyPolicy>) -> u128 {
    let digest = |target: &Target<'_>| {
        let mut hash = Sha256::new();
        let host = target.host_without_usual_port();
        // It can't fail: a hash takes any length. What is too long has no key either.
        let _ = Target { scheme: None, host, ..*target }.write(&mut hash);
        short_digest(hash)
    };
    match policy {
        Some(policy) => policy.narrow(target, digest),
        None => digest(target),
    }
}

/// As much of a hash as tells the tags of a layer's own apart.
pub(crate) fn short_digest(hash: Sha256) -> u128 {
    hash.finalize().iter().take(16).fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

impl Sink for Sha256 {
    fn push(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

/// Takes no more than a key may be long: what comes from outside must not grow without bound.
struct Bounded<'a, S> {
    out: &'a mut S,
    left: usize,
}

impl<S: Sink> Sink for Bounded<'_, S> {
    fn push(&mut self, bytes: &[u8]) {
        self.left = self.left.saturating_sub(bytes.len());
        if self.left > 0 {
            self.out.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests;
