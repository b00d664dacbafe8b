//! What is kept of a session.

use serde::{Deserialize, Serialize};

use super::store::{RefreshRecord, RefreshStoreError};
use super::token::{Mark, Nonce, Seal, Secret, random};
use super::{RefreshError, Terms};
use crate::error::{IssueError, KeyError};
use crate::manager::KeptGrant;
use crate::time::NumericDate;

/// A grant that is larger makes tokens that nobody accepts.
const MAX_LEN: usize = 16 * 1024;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) grant: KeptGrant,
    /// Seals the session's tokens, so that one can be told from something made up.
    pub(super) mark: Mark,
    /// The digest of the secret that is to be used next.
    pub(super) current: [u8; 32],
    pub(super) before: Option<Before>,
    #[serde(with = "millis")]
    pub(super) began: NumericDate,
    #[serde(with = "millis")]
    pub(super) until: NumericDate,
    pub(super) ended: bool,
}

/// The refresh token that was used last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Before {
    pub(super) digest: [u8; 32],
    /// What made the current secret of it.
    pub(super) nonce: Nonce,
    #[serde(with = "millis")]
    pub(super) used: NumericDate,
}

/// What a refresh token of a session is to it.
pub(super) enum Standing {
    /// It is to be used next.
    Current,
    /// It was used last, and is good for the same answer once more.
    Again(Nonce),
    /// It was used before.
    Used,
}

impl Record {
    pub(super) fn new(
        grant: KeptGrant,
        secret: &Secret,
        now: NumericDate,
        terms: Terms,
    ) -> Result<Self, KeyError> {
        let (mark, current) = (random()?, secret.digest());
        let until = now.saturating_add(terms.idle);
        Ok(Self { grant, mark, current, before: None, began: now, until, ended: false })
    }

    /// What follows once `secret` is used.
    pub(super) fn rotated(
        &self,
        secret: &Secret,
        nonce: Nonce,
        now: NumericDate,
        terms: Terms,
    ) -> Self {
        let before = Before { digest: self.current, nonce, used: now };
        let end = self.began.saturating_add(terms.life);
        Self {
            current: secret.next(&nonce).digest(),
            before: Some(before),
            until: now.saturating_add(terms.idle).min(end),
            ..self.clone()
        }
    }

    pub(super) fn standing(&self, secret: &Secret, now: NumericDate, terms: Terms) -> Standing {
        let digest = secret.digest();
        match &self.before {
            _ if digest == self.current => Standing::Current,
            Some(before)
                if digest == before.digest && now < before.used.saturating_add(terms.grace) =>
            {
                Standing::Again(before.nonce)
            }
            _ => Standing::Used,
        }
    }

    /// Whether a token of this session has that secret, or had.
    pub(super) fn issued(&self, secret: &Secret, seal: &Seal) -> bool {
        secret.is_sealed(seal, &self.mark)
    }

    pub(super) fn to_kept(&self) -> Result<RefreshRecord, RefreshError> {
        let bytes = serde_json::to_vec(self).map_err(|_| IssueError::Claims)?;
        if bytes.len() > MAX_LEN {
            return Err(IssueError::TooLarge.into());
        }
        Ok(RefreshRecord { bytes, keep_until: self.until })
    }

    pub(super) fn from_kept(kept: &RefreshRecord) -> Result<Self, RefreshError> {
        serde_json::from_slice(&kept.bytes)
            .map_err(|error| RefreshStoreError::Damaged(error.into()).into())
    }
}

mod millis {
    //! Instants to the millisecond.

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::time::NumericDate;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    pub(super) fn serialize<S: Serializer>(
        date: &NumericDate,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(date.as_millis())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<NumericDate, D::Error> {
        i64::deserialize(deserializer).map(NumericDate::from_millis)
    }
}
