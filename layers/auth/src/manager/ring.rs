//! The keys of a manager: the one that signs, the one that will, and those that did.

use std::time::Duration;

use crate::error::IssueError;
use crate::key::{Key, KeySet, SigningKey};
use crate::time::NumericDate;

#[derive(Debug)]
pub(super) struct Ring {
    active: SigningKey,
    /// What signs from then on.
    next: Option<(SigningKey, NumericDate)>,
    /// What still verifies, until then.
    former: Vec<(Key, NumericDate)>,
    /// What verifies as long as the manager lives.
    trusted: Vec<Key>,
}

impl Ring {
    pub(super) fn new(active: SigningKey, trusted: Vec<Key>) -> Self {
        Self { active, next: None, former: Vec::new(), trusted }
    }

    pub(super) fn active(&self) -> &SigningKey {
        &self.active
    }

    /// What verifies, the key that signs first.
    pub(super) fn verifying(&self) -> KeySet {
        let next = self.next.iter().map(|(key, _)| key.verifying_key());
        let former = self.former.iter().map(|(key, _)| key);
        let active = std::iter::once(self.active.verifying_key());
        active.chain(next).chain(former).chain(&self.trusted).cloned().collect()
    }

    /// Does what is due at `now`; a key's tokens live for `life` at most. Whether that changed what
    /// verifies.
    pub(super) fn settle(&mut self, now: NumericDate, life: Duration) -> bool {
        if let Some((key, _)) = self.next.take_if(|(_, from)| *from <= now) {
            // The one before has signed until somebody came to look, which is now.
            let before = std::mem::replace(&mut self.active, key);
            self.former.push((before.verifying_key().clone(), now.saturating_add(life)));
        }
        let before = self.former.len();
        self.former.retain(|(_, until)| now < *until);
        self.former.len() < before
    }

    /// Has `key` sign from `from` on. One that was still to come is dropped: it has signed nothing.
    pub(super) fn bring(&mut self, key: SigningKey, from: NumericDate) -> Result<(), IssueError> {
        let kid = key.kid().ok_or(IssueError::KeyName)?;
        if self.verifying().keys().any(|it| it.kid() == Some(kid)) {
            return Err(IssueError::KeyName);
        }
        self.next = Some((key, from));
        Ok(())
    }

    pub(super) fn revoke(&mut self, kid: &str) -> bool {
        let named = |key: &Key| key.kid() == Some(kid);
        if named(self.active.verifying_key()) {
            let Some((next, _)) = self.next.take() else { return false };
            self.active = next;
            return true;
        }
        let next = self.next.take_if(|(key, _)| named(key.verifying_key())).is_some();
        let before = self.former.len() + self.trusted.len();
        self.former.retain(|(key, _)| !named(key));
        self.trusted.retain(|key| !named(key));
        next || self.former.len() + self.trusted.len() < before
    }
}
