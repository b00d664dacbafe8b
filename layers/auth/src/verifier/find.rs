//! Finds the key that signed a token.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::header::Header;
use crate::refusal::Refusal;
use crate::source::{Keys, Live, Slot};

/// How many keys are tried for one token. Each costs as much as the first one, so a set of many keys
/// must not let a single token keep a core busy; issuers have two or three at a time.
const MAX_TRIES: usize = 4;

/// How often keys may be swapped under a single token before it is refused.
const MAX_SWAPS: usize = 3;

/// The key among `keys` whose signature `signature` is, over `signed`.
pub(super) fn signer(
    keys: &Keys,
    header: &Header<'_>,
    signed: &[u8],
    signature: &[u8],
) -> Result<Arc<Slot>, Refusal> {
    for _ in 0..MAX_SWAPS {
        let live = keys.live();
        let live = live.as_ref().ok_or(Refusal::KeysUnavailable)?;
        let candidates = candidates(live, header)?;
        let slot = candidates
            .into_iter()
            .find(|slot| slot.key.verifies(header.algorithm, signed, signature))
            .ok_or(Refusal::WrongSignature)?;
        // It may have been taken out while the signature was computed. Asked again here, nothing is
        // accepted by a key once it is known to be gone.
        if !slot.is_retired() {
            return Ok(Arc::clone(slot));
        }
    }
    Err(Refusal::UnknownKey)
}

/// Whether a source that has newer keys may have one for the token. A wrong signature says so only
/// if the key wasn't named.
pub(super) fn may_be_elsewhere(refusal: &Refusal, kid: Option<&str>) -> bool {
    match refusal {
        Refusal::KeysUnavailable | Refusal::UnknownKey => true,
        Refusal::WrongSignature => kid.is_none(),
        _ => false,
    }
}

type Candidates<'a> = SmallVec<[&'a Arc<Slot>; MAX_TRIES]>;

/// `kid` names keys and does nothing else: no file is opened and no query is made of it. A key that
/// has no name itself answers to any.
fn candidates<'a>(live: &'a Live, header: &Header<'_>) -> Result<Candidates<'a>, Refusal> {
    let slots = live.slots().iter();
    let mut named: Candidates<'_> = match header.kid.as_deref() {
        Some(kid) => slots.clone().filter(|slot| slot.key.kid() == Some(kid)).collect(),
        None => slots.clone().collect(),
    };
    if named.is_empty() {
        named = slots.filter(|slot| slot.key.kid().is_none()).collect();
    }
    if named.is_empty() {
        return Err(Refusal::UnknownKey);
    }
    named.retain(|slot| slot.key.is_for(header.algorithm));
    match named.len() {
        0 if header.kid.is_some() => Err(Refusal::KeyMismatch),
        0 => Err(Refusal::UnknownKey),
        1..=MAX_TRIES => Ok(named),
        _ => Err(Refusal::AmbiguousKey),
    }
}
