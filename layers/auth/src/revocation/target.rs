//! What can be revoked, and the digests by which it is known.

use std::fmt;
use std::time::Duration;

use serde_json::Value;
use smallvec::SmallVec;

use super::Revocable;

/// By how many values of one claim a token can be revoked: so many of a list are looked at.
const MAX_VALUES: usize = 32;

/// Half a SHA-256: what is revoked is known by nothing else, neither in memory nor in Redis.
pub(super) type Digest = [u8; 16];

/// What is revoked: all tokens of it that were issued until then.
///
/// ```
/// use tower_keep_auth::Target;
///
/// // Log out everywhere.
/// let target = Target::subject("https://id.example.com", "user:1");
/// # let _ = target;
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Target {
    kind: Kind,
    digest: Digest,
    life: Option<Duration>,
}

/// Part of each digest, so none may get another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Token = 1,
    Session = 2,
    Subject = 3,
    Client = 4,
    Issuer = 5,
    Claim = 6,
}

impl Target {
    fn new(kind: Kind, parts: &[&str]) -> Self {
        // Each with its length, so that no two lists of parts look the same.
        let lengths: SmallVec<[[u8; 8]; 3]> =
            parts.iter().map(|part| (part.len() as u64).to_le_bytes()).collect();
        let kind_byte = [kind as u8];
        let mut all: SmallVec<[&[u8]; 7]> = SmallVec::new();
        all.push(&kind_byte);
        for (part, len) in parts.iter().zip(&lengths) {
            all.push(len);
            all.push(part.as_bytes());
        }
        let mut digest = Digest::default();
        digest.copy_from_slice(&crate::key::sha256(&all)[..16]);
        Self { kind, digest, life: None }
    }

    /// The one token with this `jti`.
    pub fn token(issuer: &str, id: &str) -> Self {
        Self::new(Kind::Token, &[issuer, id])
    }

    /// The tokens of one session (`sid`).
    pub fn session(issuer: &str, session: &str) -> Self {
        Self::new(Kind::Session, &[issuer, session])
    }

    /// The tokens and sessions of a subject (`sub`): logged out everywhere.
    pub fn subject(issuer: &str, subject: &str) -> Self {
        Self::new(Kind::Subject, &[issuer, subject])
    }

    /// The tokens and sessions of an OAuth client (`client_id`).
    pub fn client(issuer: &str, client: &str) -> Self {
        Self::new(Kind::Client, &[issuer, client])
    }

    /// All tokens and sessions of an issuer.
    pub fn issuer(issuer: &str) -> Self {
        Self::new(Kind::Issuer, &[issuer])
    }

    /// The tokens and sessions with this value of a claim, or with a list that has it: a tenant, for
    /// example. The list must be [told](super::RevocationListBuilder::by_claim) to look at the claim.
    /// None if the value is neither text nor a number.
    pub fn claim(issuer: &str, name: &str, value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::new(Kind::Claim, &[issuer, name, text])),
            // With a mark that keeps it apart from the same digits as text.
            Value::Number(number) => {
                Some(Self::new(Kind::Claim, &[issuer, name, &format!("\0{number}")]))
            }
            _ => None,
        }
    }

    /// Says that no token of it lives for longer than `longest`, so that the revocation need not be
    /// remembered for longer, and makes room for others sooner. Else a list goes by its own
    /// [`token_life`](super::RevocationListBuilder::token_life) or
    /// [`session_life`](super::RevocationListBuilder::session_life), which remain the most.
    #[must_use]
    pub fn living(mut self, longest: Duration) -> Self {
        self.life = Some(longest);
        self
    }

    /// How long its tokens live at most, if that was said.
    pub fn life(&self) -> Option<Duration> {
        self.life
    }

    /// Whether it is about something that can't be issued again.
    pub fn is_single(&self) -> bool {
        matches!(self.kind, Kind::Token | Kind::Session)
    }

    pub(super) fn digest(&self) -> Digest {
        self.digest
    }
}

/// What is revoked is somebody's, and no log's business.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("kind", &self.kind).finish_non_exhaustive()
    }
}

pub(super) type Digests = SmallVec<[Digest; 6]>;

/// All by which `token` may have been revoked.
pub(super) fn of(token: &Revocable<'_>, names: &[Box<str>]) -> Digests {
    let claims = token.claims();
    let issuer = claims.iss.as_deref().unwrap_or_default();
    let registered = [
        Some(Target::issuer(issuer)),
        claims.sub.as_deref().map(|sub| Target::subject(issuer, sub)),
        claims.jti.as_deref().map(|jti| Target::token(issuer, jti)),
        claims.sid.as_deref().map(|sid| Target::session(issuer, sid)),
        claims.client_id.as_deref().map(|client| Target::client(issuer, client)),
    ];
    let mut digests: Digests = registered.iter().flatten().map(Target::digest).collect();
    for name in names {
        let values = match token.claim(name) {
            None => continue,
            Some(Value::Array(values)) => values.as_slice(),
            Some(value) => std::slice::from_ref(value),
        };
        let targets = values.iter().filter_map(|value| Target::claim(issuer, name, value));
        digests.extend(targets.take(MAX_VALUES).map(|target| target.digest()));
    }
    digests
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_two_things_are_known_by_one_digest() {
        let claim = |name, value| Target::claim("a", name, &value).unwrap();
        let all = [
            Target::token("a", "b"),
            Target::session("a", "b"),
            Target::subject("a", "b"),
            Target::client("a", "b"),
            Target::issuer("a"),
            Target::issuer("ab"),
            Target::subject("ab", ""),
            Target::subject("", "ab"),
            claim("b", json!("7")),
            claim("b", json!(7)),
            claim("c", json!("7")),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(all[n + 1..].iter().all(|other| other.digest() != one.digest()), "{n}");
        }
        assert_eq!(Target::token("a", "b"), Target::token("a", "b"));
        assert_eq!(Target::claim("a", "b", &json!(null)), None);
    }
}
