//! The future of a call.

mod delta;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Response, StatusCode, response};
use http_body::Body;
use pin_project_lite::pin_project;

pub(crate) use self::delta::DeltaAsked;
use crate::body::{CompressBody, Encode, Look, Source};
use crate::encoder::Encoder;
use crate::error::{BoxError, EncodeError};
use crate::etag::Mapped;
use crate::fields::{make_encoded, remove_digests};
use crate::form::Form;
use crate::policy::{Asked, AskedMethod, Decision, Policy, Reason, ResponseHead, add_vary};

/// Bodies that are there at once, and no longer than this, are compressed in one go, and are sent
/// with their length. Longer ones are compressed as they are sent.
const AT_ONCE: usize = 16 * 1024;

pin_project! {
    /// The future of [`Compress`](crate::Compress).
    #[derive(Debug)]
    pub struct CompressFuture<F> {
        #[pin]
        call: F,
        policy: Policy,
        asked: Asked,
        delta: DeltaAsked,
        mapped: Option<Mapped>,
    }
}

impl<F> CompressFuture<F> {
    pub(crate) fn new(
        call: F,
        policy: Policy,
        asked: Asked,
        delta: DeltaAsked,
        mapped: Option<Mapped>,
    ) -> Self {
        Self { call, policy, asked, delta, mapped }
    }
}

impl<F, B, E> Future for CompressFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<CompressBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (parts, body) = ready!(this.call.poll(cx))?.into_parts();
        let answer = Answer { policy: this.policy, asked: this.asked, delta: this.delta, parts };
        Poll::Ready(Ok(answer.make(body, this.mapped.as_ref(), cx)))
    }
}

/// A response in the making.
struct Answer<'a> {
    policy: &'a Policy,
    asked: &'a Asked,
    delta: &'a DeltaAsked,
    parts: response::Parts,
}

impl Answer<'_> {
    fn make<B>(
        mut self,
        body: B,
        mapped: Option<&Mapped>,
        cx: &mut Context<'_>,
    ) -> Response<CompressBody<B>>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        if self.parts.status == StatusCode::NOT_MODIFIED {
            let Self { policy, asked, delta, parts } = &mut self;
            delta.renew(policy, &parts.headers);
            if let Some(mapped) = mapped {
                mapped.restore(&mut parts.headers, &asked.accept, &policy.settings().encodings);
            }
            // RFC 9110 §15.4.5: as 200 would have said it. Its type isn't known here; where it is one that
            // has no forms, this is more than was needed. A cache that keeps what a 304 says would else
            // send an encoded form to those who can't read it.
            add_vary(&mut parts.headers);
            delta.add_vary(policy, &mut parts.headers);
        }
        let len = self.length(&body);
        let kept = self.delta.mark(self.policy, &mut self.parts, len);
        let form = match self.form(len) {
            Ok(form) => form,
            Err(reason) => {
                let body = match kept {
                    Some(_) => CompressBody::seen(Source::new(body, kept)),
                    None => CompressBody::plain(body),
                };
                return self.leave(reason, body);
            }
        };
        if self.asked.method == AskedMethod::Head {
            return self.encoded(&form, None, CompressBody::unsent());
        }
        let mut source = Source::new(body, kept);
        let look = match len {
            Some(len) if len > AT_ONCE as u64 => Look::More,
            _ => source.look(cx, AT_ONCE),
        };
        let look = match (look, len) {
            // That it has another length than it said is found out as it is encoded.
            (Look::Whole(there), Some(announced)) if there as u64 != announced => Look::More,
            _ => look,
        };
        let (form, len) = match look {
            // If it is announced, `Encode` sees to it that the encoder is told the truth.
            Look::More => (form, len),
            // It may be shorter than it had to be taken for.
            Look::Whole(len) => match self.form(Some(len as u64)) {
                Ok(form) => (form, Some(len as u64)),
                Err(reason) => return self.leave(reason, CompressBody::seen(source)),
            },
        };
        let settings = self.policy.settings();
        // Without memory for an encoder, the plain form is still there.
        let Ok(mut encoder) = Encoder::streaming(&form, form.level_now(&settings.levels), len)
        else {
            return self.leave(Reason::NotAccepted, CompressBody::seen(source));
        };
        if look == Look::More {
            let encode = Encode::new(encoder, settings.flush, len);
            return self.encoded(&form, None, CompressBody::encoded(source, encode));
        }
        match encode_seen(&mut encoder, source.seen()) {
            Ok(data) => {
                let mut trailers = source.take_trailers();
                trailers.iter_mut().for_each(remove_digests);
                let trailers = trailers.filter(|trailers| !trailers.is_empty());
                let len = trailers.is_none().then_some(data.len());
                self.encoded(&form, len, CompressBody::whole(data.into(), trailers))
            }
            Err(_) => self.leave(Reason::NotAccepted, CompressBody::seen(source)),
        }
    }

    /// In what the response is sent, or why as it is.
    fn form(&self, len: Option<u64>) -> Result<Form, Reason> {
        let Self { policy, asked, delta, parts } = self;
        let with = |encoding| delta.form(policy, asked, &parts.headers, encoding, len);
        match policy.decide(asked, &ResponseHead::of(parts), len) {
            Decision::Encode(encoding) => {
                Ok(with(Some(encoding)).unwrap_or(Form::Coding(encoding)))
            }
            Decision::Leave(reason @ (Reason::NotAccepted | Reason::NothingAcceptable)) => {
                with(None).ok_or(reason)
            }
            Decision::Leave(reason) => Err(reason),
        }
    }

    /// How long the content is. That of a response to `HEAD` isn't there, but may be announced.
    fn length(&self, body: &impl Body) -> Option<u64> {
        let is_head = self.asked.method == AskedMethod::Head;
        let there = body.size_hint().exact().filter(|len| !is_head || *len > 0);
        there.or_else(|| self.parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok())
    }

    /// The response as it is.
    fn leave<B>(mut self, reason: Reason, body: CompressBody<B>) -> Response<CompressBody<B>> {
        tracing::trace!(?reason, "not compressed");
        if reason == Reason::NothingAcceptable && self.policy.settings().refuse_unacceptable {
            let mut refusal = Response::new(CompressBody::empty());
            *refusal.status_mut() = StatusCode::NOT_ACCEPTABLE;
            add_vary(refusal.headers_mut());
            self.delta.add_vary(self.policy, refusal.headers_mut());
            return refusal;
        }
        // RFC 9110 §15.3.7: a part varies as the whole does.
        let has_forms = reason == Reason::Partial
            && self.parts.status == StatusCode::PARTIAL_CONTENT
            && self.policy.settings().excluded_whole(&ResponseHead::of(&self.parts)).is_none();
        if has_forms || Decision::Leave(reason).varies() {
            add_vary(&mut self.parts.headers);
            self.delta.add_vary(self.policy, &mut self.parts.headers);
        } else if reason == Reason::AlreadyEncoded {
            // By a cache inside, for example, that has other forms, too.
            self.delta.add_vary(self.policy, &mut self.parts.headers);
        }
        Response::from_parts(self.parts, body)
    }

    /// The response with an encoded body, whose length may be known.
    fn encoded<B>(
        mut self,
        form: &Form,
        len: Option<usize>,
        body: CompressBody<B>,
    ) -> Response<CompressBody<B>> {
        tracing::trace!(encoding = ?form.to_header_value(), "compressed");
        let headers = &mut self.parts.headers;
        make_encoded(headers, form, self.policy.settings().entity_tags);
        self.delta.add_vary(self.policy, headers);
        if let Some(len) = len {
            headers.insert(CONTENT_LENGTH, len.into());
        }
        Response::from_parts(self.parts, body)
    }
}

fn encode_seen<'a>(
    encoder: &mut Encoder,
    data: impl Iterator<Item = &'a Bytes>,
) -> Result<Vec<u8>, EncodeError> {
    let mut encoded = Vec::new();
    for part in data {
        encoder.write(part, &mut encoded)?;
    }
    encoder.finish(&mut encoded)?;
    Ok(encoded)
}
