//! What a token is to say, and the token that says it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::IssueError;
use crate::time::NumericDate;

/// The claims that a manager sets itself.
const RESERVED: [&str; 10] =
    ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "scope", "client_id", "sid"];

type Audiences = Option<Vec<Box<str>>>;

/// Whom a token is for, and what it lets them do.
///
/// ```
/// use std::time::Duration;
/// use serde_json::json;
/// use tower_keep_auth::Grant;
///
/// let grant = Grant::new("user:1")
///     .scope("orders:read orders:write")
///     .claims(&json!({"roles": ["clerk"]}))
///     .ttl(Duration::from_secs(300));
/// # let _ = grant;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Grant {
    subject: String,
    audiences: Audiences,
    pub(super) ttl: Option<Duration>,
    scope: Vec<String>,
    client: Option<String>,
    claims: Option<Result<Value, IssueError>>,
    session: Option<String>,
}

/// A grant that is kept, for tokens that are yet to be issued.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeptGrant {
    subject: String,
    audiences: Audiences,
    ttl: Option<Duration>,
    scope: Vec<String>,
    client: Option<String>,
    claims: Option<Map<String, Value>>,
}

impl KeptGrant {
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    pub(crate) fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.as_ref()?.get(name)
    }

    pub(crate) fn client(&self) -> Option<&str> {
        self.client.as_deref()
    }

    pub(crate) fn into_grant(self) -> Grant {
        let Self { subject, audiences, ttl, scope, client, claims } = self;
        let claims = claims.map(|claims| Ok(Value::Object(claims)));
        Grant { subject, audiences, ttl, scope, client, claims, session: None }
    }
}

impl Grant {
    /// For this subject (`sub`).
    pub fn new(subject: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            audiences: None,
            ttl: None,
            scope: Vec::new(),
            client: None,
            claims: None,
            session: None,
        }
    }

    /// A scope, or several with spaces between (`scope`, RFC 8693 §4.2). Can be called several times.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope.push(scope.into());
        self
    }

    /// An audience, in the place of the manager's own (`aud`). Can be called several times.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.get_or_insert_default().push(audience.into().into_boxed_str());
        self
    }

    /// The OAuth client that asked for the token (`client_id`, RFC 8693 §4.3).
    pub fn client(mut self, id: impl Into<String>) -> Self {
        self.client = Some(id.into());
        self
    }

    /// How long the token is good for. Default: the manager's `ttl`.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Claims of one's own: a struct or a map. They can't have the names of those that are set here
    /// or by the manager.
    pub fn claims(mut self, claims: &impl Serialize) -> Self {
        self.claims = Some(serde_json::to_value(claims).map_err(|_| IssueError::Claims));
        self
    }

    /// The session that the token is of (`sid`, OIDC Front-Channel Logout §3).
    pub(crate) fn session(mut self, name: &str) -> Self {
        self.session = Some(name.to_owned());
        self
    }

    /// The grant as it can be kept.
    pub(crate) fn keep(self) -> Result<KeptGrant, IssueError> {
        let Self { subject, audiences, ttl, scope, client, claims, .. } = self;
        let claims = match claims {
            None => None,
            Some(Ok(Value::Object(claims))) => Some(claims),
            Some(_) => return Err(IssueError::Claims),
        };
        Ok(KeptGrant { subject, audiences, ttl, scope, client, claims })
    }

    /// The claims that the grant has itself, and the audiences that it names.
    pub(super) fn into_claims(self) -> Result<(Map<String, Value>, Audiences), IssueError> {
        let mut claims = match self.claims {
            None => Map::new(),
            Some(Ok(Value::Object(claims))) => claims,
            Some(_) => return Err(IssueError::Claims),
        };
        if let Some(name) = RESERVED.into_iter().find(|name| claims.contains_key(*name)) {
            return Err(IssueError::Reserved(name));
        }
        claims.insert("sub".into(), Value::String(self.subject));
        if !self.scope.is_empty() {
            claims.insert("scope".into(), Value::String(self.scope.join(" ")));
        }
        if let Some(client) = self.client {
            claims.insert("client_id".into(), Value::String(client));
        }
        if let Some(session) = self.session {
            claims.insert("sid".into(), Value::String(session));
        }
        Ok((claims, self.audiences))
    }
}

/// A token that was issued.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Issued {
    /// The token, in the compact serialization.
    pub token: String,
    /// Its `jti`: 128 random bits.
    pub id: String,
    /// Its `exp`.
    pub expires_at: NumericDate,
}

/// Without the token, which is as good as its subject's word.
impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("id", &self.id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
