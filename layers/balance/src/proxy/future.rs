//! The future of a proxied request.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{DATE, HeaderValue, UPGRADE};
use http::{Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use pin_project_lite::pin_project;

use super::builder::Settings;
use super::error::{BoxError, ErrorKind, UpstreamError};
use super::hop;
use super::respond::{Manner, ProxyBody, failed, refused};
use super::tunnel::tunnel;
use super::upgrade::Upgrade;
use crate::answer::Refusal;

pin_project! {
    /// The future of [`Proxy`](super::Proxy). If it is dropped, the request is cancelled.
    pub struct ProxyFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Answer { answer: Option<Response<Bytes>> },
        Forward {
            #[pin]
            call: F,
            settings: Arc<Settings>,
            manner: Manner,
            upgrade: Option<Upgrade>,
        },
    }
}

impl<F> ProxyFuture<F> {
    pub(super) fn answer(answer: Response<Bytes>) -> Self {
        Self { state: State::Answer { answer: Some(answer) } }
    }

    pub(super) fn forward(
        call: F,
        settings: Arc<Settings>,
        manner: Manner,
        upgrade: Option<Upgrade>,
    ) -> Self {
        Self { state: State::Forward { call, settings, manner, upgrade } }
    }
}

impl<F, R, E> Future for ProxyFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    E: Into<BoxError>,
    R: Send + 'static,
{
    type Output = Result<Response<ProxyBody<R>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = match self.project().state.project() {
            StateProj::Answer { answer } => match answer.take() {
                Some(answer) => answer.map(ProxyBody::own),
                // It has been taken.
                None => return Poll::Pending,
            },
            StateProj::Forward { call, settings, manner, upgrade } => match ready!(call.poll(cx)) {
                Ok(response) => settings.send_back(response, upgrade.take()),
                Err(error) => {
                    failed(error.into(), *manner, &settings.pseudonym).map(ProxyBody::own)
                }
            },
        };
        Poll::Ready(Ok(response))
    }
}

impl Settings {
    /// Makes of an upstream's response one that a cache and the client can use.
    fn send_back<R: Send + 'static>(
        &self,
        mut response: Response<R>,
        upgrade: Option<Upgrade>,
    ) -> Response<ProxyBody<R>> {
        if let Some(why) = response.extensions().get::<Refusal>().copied() {
            return refused(response, why, &self.pseudonym).map(ProxyBody::own);
        }
        let version = response.version();
        let protocol = response.headers_mut().remove(UPGRADE);
        hop::strip(response.headers_mut());
        self.pseudonym.sign(response.headers_mut(), version);
        // What version it goes on in is the server's business.
        *response.version_mut() = Version::HTTP_11;
        let headers = response.headers_mut();
        // RFC 9110 §6.6.1: one without a date gets that of its arrival, before it is stored.
        if !headers.contains_key(DATE)
            && let Ok(now) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now()))
        {
            headers.insert(DATE, now);
        }
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return response.map(ProxyBody::upstream);
        }
        let upstream = response.extensions_mut().remove::<OnUpgrade>();
        let protocol = protocol.filter(|it| upgrade.as_ref().is_some_and(|asked| asked.is_of(it)));
        let (Some(upgrade), Some(upstream), Some(protocol)) = (upgrade, upstream, protocol) else {
            let error = UpstreamError::new(ErrorKind::Upgrade);
            return failed(error.into(), Manner::Http, &self.pseudonym).map(ProxyBody::own);
        };
        upgrade.agree(&mut response, protocol);
        let (parts, body) = response.into_parts();
        // The body has nothing in it, but what it holds is in use until the end.
        tokio::spawn(tunnel(upgrade.client, upstream, self.tunnel_timeout, body));
        Response::from_parts(parts, ProxyBody::own(Bytes::new()))
    }
}

impl<F> fmt::Debug for ProxyFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Answer { .. } => "Answer",
            State::Forward { .. } => "Forward",
        };
        f.debug_tuple("ProxyFuture").field(&state).finish()
    }
}
