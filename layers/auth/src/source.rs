//! Where an issuer's keys come from, and how they are swapped while tokens are verified by them.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwapOption, Guard};

use crate::algorithm::Algorithm;
use crate::health::KeyHealth;
use crate::key::{Identity, Key, KeySet};

/// Where an issuer's keys come from.
///
/// A source owns a cell of [`Keys`] and puts sets into it, by whatever task and schedule it has. A
/// verifier only ever reads the cell, which takes no lock and waits for nobody. When it holds no key
/// that a token could have been signed with, the source is asked to look again.
///
/// [`Keys`] itself is a source, for sets that are given once, or by hand.
pub trait KeySource: Send + Sync + 'static {
    /// The cell. It is always the same one.
    fn keys(&self) -> &Keys;

    /// Told that no key in the cell fits a token: something to wait for, after which the token is
    /// tried once more. None if there is nothing to be had, now.
    ///
    /// Anybody can send tokens that name keys which don't exist, so it is for the source to ask its
    /// issuer only so often, and once for all who wait.
    fn look_again(&self, wanted: Wanted<'_>) -> Option<LookAgain> {
        let _ = wanted;
        None
    }

    /// How the source is doing. Default: what its cell tells.
    fn health(&self) -> KeyHealth {
        KeyHealth::of(self.keys())
    }
}

/// What a source does when it has been asked to look for a key.
pub type LookAgain = Pin<Box<dyn Future<Output = Looked> + Send>>;

/// How a source's look for a key ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// The issuer was asked, and what it has is in the cell.
    Asked,
    /// The issuer could not be asked, so nothing is known of the key. A token whose key is still not
    /// there is refused with [`Refusal::KeysUnavailable`](crate::Refusal::KeysUnavailable): it may be
    /// good.
    Failed,
}

/// A key that isn't there. It is a token that nobody has verified that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wanted<'a> {
    /// The key's name, if the token gives one.
    pub kid: Option<&'a str>,
    /// What the key must be for.
    pub algorithm: Algorithm,
}

impl<'a> Wanted<'a> {
    pub(crate) fn new(kid: Option<&'a str>, algorithm: Algorithm) -> Self {
        Self { kid, algorithm }
    }
}

/// A cell with the keys of an issuer. Its clones are the same cell.
///
/// ```
/// use tower_keep_auth::{Algorithm, KeySet, Keys, SigningKey};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (old, new) = (SigningKey::generate(Algorithm::Es256)?, SigningKey::generate(Algorithm::Es256)?);
/// let keys = Keys::new(KeySet::from(old.verifying_key().clone()));
/// // Tokens of the old key are refused from here on, also those that were accepted before.
/// let change = keys.replace(KeySet::from(new.verifying_key().clone()));
/// assert_eq!((change.added, change.removed), (1, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Keys {
    shared: Arc<Shared>,
}

struct Shared {
    cell: ArcSwapOption<Live>,
    /// Held by who replaces, never by who reads.
    replacing: Mutex<()>,
}

/// The keys that are in a cell.
#[derive(Debug, Default)]
pub(crate) struct Live {
    slots: Box<[Arc<Slot>]>,
}

/// A key in a cell, for as long as it is there without a break. What was verified by it is good for
/// no longer.
pub(crate) struct Slot {
    pub(crate) key: Arc<Key>,
    identity: Identity,
    retired: AtomicBool,
}

impl Slot {
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }
}

/// Without what identifies it: a secret could be guessed by that.
impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

/// How [`Keys::replace`] changed what is in a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Keys that are new.
    pub added: usize,
    /// Keys that were there before.
    pub kept: usize,
    /// Keys that are gone.
    pub removed: usize,
}

impl Keys {
    /// A cell with these keys.
    pub fn new(set: impl Into<KeySet>) -> Self {
        let keys = Self::unavailable();
        keys.replace(set);
        keys
    }

    /// A cell whose keys aren't known yet. Tokens are refused with
    /// [`Refusal::KeysUnavailable`](crate::Refusal::KeysUnavailable), which is not their fault.
    pub fn unavailable() -> Self {
        let shared = Shared { cell: ArcSwapOption::empty(), replacing: Mutex::new(()) };
        Self { shared: Arc::new(shared) }
    }

    /// Puts `set` in the place of what is there.
    ///
    /// Once this returns, no token is accepted by a key that isn't in it, also none that was verified
    /// before. What was verified by a key that stays (same name, algorithms and material) stays so.
    pub fn replace(&self, set: impl Into<KeySet>) -> Change {
        let keys = set.into().into_keys();
        let _replacing = self.shared.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.shared.cell.load_full();
        let known = before.as_ref().map_or(&[][..], |live| &live.slots);
        let mut change = Change::default();
        let mut slots: Vec<Arc<Slot>> = Vec::with_capacity(keys.len());
        for key in keys {
            let identity = key.identity();
            if slots.iter().any(|slot| slot.identity == identity) {
                continue;
            }
            if let Some(slot) = known.iter().find(|slot| slot.identity == identity) {
                change.kept += 1;
                slots.push(Arc::clone(slot));
            } else {
                change.added += 1;
                slots.push(Arc::new(Slot { key, identity, retired: AtomicBool::new(false) }));
            }
        }
        change.removed = known.len() - change.kept;
        let live = Live { slots: slots.into() };
        let kept = |slot: &Slot| live.slots.iter().any(|it| it.identity == slot.identity);
        let retired: Vec<_> = known.iter().filter(|slot| !kept(slot)).collect();
        self.shared.cell.store(Some(Arc::new(live)));
        retire(retired);
        change
    }

    /// Takes all keys out, for a source that can't vouch for them any more.
    pub fn forget(&self) {
        let _replacing = self.shared.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = self.shared.cell.swap(None) {
            retire(before.slots.iter());
        }
    }

    /// How many keys there are; none if they aren't known.
    pub fn len(&self) -> Option<usize> {
        self.live().as_ref().map(|live| live.slots.len())
    }

    /// Whether no token can be verified: there is no key, or it isn't known which there are.
    pub fn is_empty(&self) -> bool {
        self.len().unwrap_or_default() == 0
    }

    /// Whether one of the keys has that name.
    pub fn contains(&self, kid: &str) -> bool {
        self.live()
            .as_ref()
            .is_some_and(|live| live.slots.iter().any(|slot| slot.key.kid() == Some(kid)))
    }

    pub(crate) fn live(&self) -> Guard<Option<Arc<Live>>> {
        self.shared.cell.load()
    }
}

/// After the new set is in place, so that nobody is given what is found here and not there.
fn retire<'a>(slots: impl IntoIterator<Item = &'a Arc<Slot>>) {
    for slot in slots {
        slot.retired.store(true, Ordering::Release);
    }
}

impl Live {
    pub(crate) fn slots(&self) -> &[Arc<Slot>] {
        &self.slots
    }
}

impl KeySource for Keys {
    fn keys(&self) -> &Keys {
        self
    }
}

impl<S: KeySource + ?Sized> KeySource for Arc<S> {
    fn keys(&self) -> &Keys {
        (**self).keys()
    }

    fn look_again(&self, wanted: Wanted<'_>) -> Option<LookAgain> {
        (**self).look_again(wanted)
    }

    fn health(&self) -> KeyHealth {
        (**self).health()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keys").field(&self.live().as_ref().map(|live| &live.slots)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SigningKey;

    fn key() -> Key {
        SigningKey::generate(Algorithm::EdDsa).unwrap().verifying_key().clone()
    }

    fn slots(keys: &Keys) -> Vec<Arc<Slot>> {
        keys.live().as_ref().unwrap().slots().to_vec()
    }

    #[test]
    fn keeps_the_slots_of_keys_that_stay_and_retires_the_others() {
        let (a, b, c) = (key(), key(), key());
        let keys = Keys::new([a.clone(), b.clone()]);
        let before = slots(&keys);
        let change = keys.replace([b, c]);
        assert_eq!(change, Change { added: 1, kept: 1, removed: 1 });
        let after = slots(&keys);
        assert!(Arc::ptr_eq(&before[1], &after[0]));
        assert!(before[0].is_retired() && !before[1].is_retired());
        // One that comes back is another one: what was verified before isn't good again.
        keys.replace(a);
        assert!(before[0].is_retired() && !slots(&keys)[0].is_retired());
        assert!(after.iter().all(|slot| slot.is_retired()));
    }

    #[test]
    fn a_key_under_another_name_is_another_key() {
        let a = key();
        let keys = Keys::new(a.clone());
        assert_eq!(keys.replace(a.with_kid("other")).kept, 0);
    }

    #[test]
    fn holds_a_key_that_is_given_twice_once() {
        let a = key();
        let keys = Keys::new([a.clone(), a]);
        assert_eq!(keys.len(), Some(1));
    }

    #[test]
    fn forgets_all_keys_and_learns_them_again() {
        let a = key();
        let keys = Keys::new(a.clone());
        let before = slots(&keys);
        keys.forget();
        assert_eq!((keys.len(), keys.is_empty()), (None, true));
        assert!(before[0].is_retired());
        assert_eq!(keys.replace(a.clone()).added, 1);
        assert!(keys.contains(a.kid().unwrap()));
    }
}
