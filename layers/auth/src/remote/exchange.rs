//! One request for a document, and its answer within bounds.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, IF_NONE_MATCH, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use tower::ServiceExt as _;
use tower_service::Service;

use super::error::{BoxError, FetchError};
use super::freshness;

/// What was fetched.
#[derive(Debug)]
pub(super) struct Document {
    /// None if it is the one that is known (304).
    pub(super) content: Option<Bytes>,
    pub(super) etag: Option<HeaderValue>,
    /// How long the issuer says it is good.
    pub(super) lifetime: Option<Duration>,
}

/// Why nothing was fetched, and how long the issuer asks to be left alone.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: FetchError,
    pub(super) retry_after: Option<Duration>,
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self { error, retry_after: None }
    }
}

/// Fetches `uri`, unless it is still what `etag` names. What the answer says it is, in
/// `Content-Type`, doesn't matter: many issuers say something else, and the content itself is read
/// strictly.
pub(super) async fn get<S, B>(
    client: &mut S,
    uri: &Uri,
    etag: Option<&HeaderValue>,
    max_size: usize,
) -> Result<Document, Failure>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body,
    B::Error: Into<BoxError>,
{
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = uri.clone();
    let fields = request.headers_mut();
    let accept = "application/json, application/jwk-set+json";
    fields.insert(ACCEPT, HeaderValue::from_static(accept));
    fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    fields.insert(USER_AGENT, HeaderValue::from_static("tower-keep"));
    if let Some(etag) = etag {
        fields.insert(IF_NONE_MATCH, etag.clone());
    }
    let client = client.ready().await.map_err(FetchError::client)?;
    let response = client.call(request).await.map_err(FetchError::client)?;
    let (head, body) = response.into_parts();
    let now = SystemTime::now();
    let lifetime = freshness::lifetime(&head.headers, now);
    let document = |content| {
        let etag = head.headers.get(ETAG).cloned();
        Document { content, etag, lifetime }
    };
    match head.status {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED if etag.is_some() => return Ok(document(None)),
        status => {
            let retry_after = freshness::retry_after(&head.headers, now);
            let error = if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
                FetchError::Redirect(status)
            } else {
                FetchError::Status(status)
            };
            return Err(Failure { error, retry_after });
        }
    }
    let encoding = head.headers.get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(FetchError::Encoded.into());
    }
    Ok(document(Some(read(body, max_size).await?)))
}

async fn read<B>(body: B, max_size: usize) -> Result<Bytes, FetchError>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    // What says that it is too large needs not be read for that.
    if body.size_hint().lower() > max_size as u64 {
        return Err(FetchError::TooLarge(max_size));
    }
    let body = Box::pin(Limited::new(body, max_size)).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            FetchError::TooLarge(max_size)
        } else {
            FetchError::Body(error.into())
        }
    })?;
    Ok(body.to_bytes())
}
