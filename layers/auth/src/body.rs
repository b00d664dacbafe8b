//! The body of a response: that of the inner service, or one of ours.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of a response that went through [`Jwt`](crate::Jwt) or
    /// [`Required`](crate::Required): the inner service's as it is, or the few bytes of a refusal.
    #[derive(Debug)]
    pub struct AuthBody<B> {
        #[pin]
        form: Form<B>,
    }
}

pin_project! {
    #[project = FormProj]
    #[derive(Debug)]
    enum Form<B> {
        Inner { #[pin] body: B },
        Own { bytes: Bytes },
    }
}

impl<B> AuthBody<B> {
    pub(crate) fn inner(body: B) -> Self {
        Self { form: Form::Inner { body } }
    }

    pub(crate) fn own(bytes: Bytes) -> Self {
        Self { form: Form::Own { bytes } }
    }
}

impl<B: Default> Default for AuthBody<B> {
    fn default() -> Self {
        Self::inner(B::default())
    }
}

impl<B> Body for AuthBody<B>
where
    B: Body,
    B::Data: From<Bytes>,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.project().form.project() {
            FormProj::Inner { body } => body.poll_frame(cx),
            FormProj::Own { bytes } if bytes.is_empty() => Poll::Ready(None),
            FormProj::Own { bytes } => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes).into()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.form {
            Form::Inner { body } => body.is_end_stream(),
            Form::Own { bytes } => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.form {
            Form::Inner { body } => body.size_hint(),
            Form::Own { bytes } => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}
