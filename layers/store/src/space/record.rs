//! Records: values that are the only copy there is, rather than copies of what an origin has.
//!
//! They lie in the second tier alone, have no tags, and no invalidation reaches them, that of
//! everything included. Nor does any node make up for one that a failover loses: no other has it.

use std::time::Duration;

use bytes::Bytes;

use super::{Seen, Space};
use crate::error::RemoteError;
use crate::frame::{self, FrameMeta};
use crate::key::KeyRef;
use crate::remote::{Put, Stored};
use crate::ttl::{Lifetime, State};

impl<V: Send + Sync + 'static> Space<V> {
    /// What the second tier has at `key`, asked now, and what tells it from everything that may lie
    /// there later.
    ///
    /// # Errors
    ///
    /// [`RemoteError`] if it can't be asked: unlike [`fetch`](Self::fetch), which takes that for a
    /// miss.
    pub async fn read(&self, key: KeyRef<'_>) -> Result<(Option<V>, Seen), RemoteError> {
        let inner = self.inner();
        let remote = inner.available().ok_or(RemoteError::Unavailable)?;
        let found = remote.get(Bytes::copy_from_slice(key.as_bytes())).await;
        let found = found.inspect_err(|error| inner.trouble("read", error))?.unwrap_or_default();
        let nothing = Seen::found(Some(&found), false);
        let Some((meta, payload)) = self.open(&found) else { return Ok((None, nothing)) };
        if meta.lifetime.state(inner.clock.now(), false) == State::Gone {
            return Ok((None, nothing));
        }
        let encoded = inner.unpack(payload).await;
        let value = encoded.map_err(Into::into).and_then(|encoded| self.0.codec.decode(encoded));
        let value = value.inspect_err(|error| inner.bad_frame(&**error)).ok();
        let seen = Seen::found(Some(&found), value.is_some());
        Ok((value, seen))
    }

    /// Puts `value` at `key` in the second tier for the time `keep`, in one step, if what lies there is
    /// still what [`read`](Self::read) has `seen`. Whether it was: of all who have seen the same, on
    /// whatever nodes, one is told so.
    ///
    /// # Errors
    ///
    /// [`RemoteError`] if it can't be told. After [`RemoteError::Deadline`] and
    /// [`RemoteError::Client`] it may have been done; but it isn't done later.
    pub async fn exchange(
        &self,
        key: KeyRef<'_>,
        seen: &Seen,
        value: &V,
        keep: Duration,
    ) -> Result<bool, RemoteError> {
        let inner = self.inner();
        let unusable = |why: &str| RemoteError::Protocol(why.to_owned());
        if !key.fits() {
            return Err(unusable("the key is too long"));
        }
        let encoded = self.0.codec.encode(value).map_err(|error| {
            inner.cannot_encode(&*error);
            unusable("the value can't be encoded")
        })?;
        let payload = inner.pack(encoded).await;
        let now = inner.clock.now();
        let until = now.saturating_add(keep);
        let lifetime = Lifetime {
            stored_at: now,
            fresh_until: until,
            refresh_until: until,
            keep_until: until,
        };
        let meta = FrameMeta { lifetime, softened: false, took: 0, tags: Vec::new() };
        let frame = frame::encode(self.0.codec.id(), fastrand::u64(..), &meta, &payload)
            .ok_or_else(|| unusable("the value can't be framed"))?;
        let remote = inner.available().ok_or(RemoteError::Unavailable)?;
        let only_if = Some(seen.token.clone().ok_or(RemoteError::Unavailable)?);
        let key = Bytes::copy_from_slice(key.as_bytes());
        let put = Put { key, frame, keep, only_if, announce: None };
        match remote.put(put).await.inspect_err(|error| inner.trouble("exchange", error))? {
            Stored::Yes => Ok(true),
            Stored::Refused => Ok(false),
            Stored::TooLarge => {
                inner.counters.too_large.add();
                Err(unusable("the value is too large"))
            }
        }
    }
}
