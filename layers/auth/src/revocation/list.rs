//! The list of what is revoked.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use smallvec::SmallVec;

use super::bucket::{self, Bucket, Decision, Entries, Entry, MAX_ENTRIES};
use super::builder::{Lost, RevocationListBuilder};
use super::shared::{self, Shared};
use super::target::{self, Digests, Target};
use super::{Check, Revocable, Revocations, RevokeError, Revoking, Standing};
use crate::refusal::Refusal;
use crate::time::{Clock, NumericDate};

/// What is revoked: by token, session, subject, client, issuer or a claim of your own, each with all
/// that was issued until then. Cloning one is cheap, and the clones are the same list.
///
/// A [`Verifier`](crate::Verifier) or [`JwtManager`](crate::JwtManager) that is given it refuses what
/// is on it. What was accepted once is accepted again without a lookup, until something is revoked
/// that falls into the same 1,024th of all things; then it is looked at once more.
///
/// ```
/// use tower_keep_auth::{
///     Algorithm, Grant, JwtManager, Refusal, RevocationList, Revocations, SigningKey, Target,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let revocations = RevocationList::builder().build()?;
/// let manager = JwtManager::builder("https://id.example.com")
///     .key(SigningKey::generate(Algorithm::EdDsa)?)
///     .audience("orders")
///     .revocations(revocations.clone())
///     .build()?;
/// let token = manager.issue(Grant::new("user:1"))?.token;
/// assert!(manager.verifier().verify(&token).await.is_ok());
///
/// revocations.revoke(Target::subject("https://id.example.com", "user:1")).await?;
/// assert_eq!(manager.verifier().verify(&token).await.unwrap_err(), Refusal::Revoked);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RevocationList {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    /// These three are those of the list that this one goes on from, if it does.
    pub(super) cells: Arc<[ArcSwap<Bucket>]>,
    /// Held by who replaces a bucket, never by who reads one.
    pub(super) writing: Arc<Mutex<()>>,
    pub(super) shared: Option<Arc<Shared>>,
    pub(super) claims: Vec<Box<str>>,
    pub(super) token_life: Duration,
    pub(super) session_life: Duration,
    pub(super) skew: Duration,
    pub(super) patience: Duration,
    pub(super) lost: Lost,
    pub(super) refuses_unread: bool,
    pub(super) clock: Clock,
}

type Buckets = SmallVec<[Arc<Bucket>; 6]>;

/// What is asked: is there a revocation of one of these that covers what was issued then?
struct Question {
    digests: Digests,
    issued: NumericDate,
    /// Until when an answer is good.
    until: NumericDate,
}

impl RevocationList {
    /// Settings of a list.
    pub fn builder() -> RevocationListBuilder {
        RevocationListBuilder::new()
    }

    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

impl Inner {
    pub(super) fn bucket(&self, place: usize) -> Option<Arc<Bucket>> {
        self.cells.get(place).map(ArcSwap::load_full)
    }

    /// Replaces a bucket by what `with` makes of it, if it makes something.
    pub(super) fn replace<T>(
        &self,
        place: usize,
        with: impl FnOnce(&Bucket) -> (Option<Bucket>, T),
    ) -> Option<T> {
        let cell = self.cells.get(place)?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = cell.load_full();
        let (bucket, result) = with(&before);
        if let Some(bucket) = bucket {
            cell.store(Arc::new(bucket));
            // Afterwards: who is told so finds the next one.
            before.supersede();
        }
        Some(result)
    }

    /// Adds a revocation on this node.
    fn add(&self, target: &Target, now: NumericDate) -> Result<usize, RevokeError> {
        let (digest, place) = (target.digest(), bucket::place(&target.digest()));
        let most = if target.is_single() { self.token_life } else { self.session_life };
        let life = target.life().map_or(most, |life| life.min(most));
        let cutoff = now.saturating_add(self.skew);
        // What can't be issued again is revoked whatever it says of when it was.
        let entry = Entry {
            cutoff: if target.is_single() { NumericDate::from_millis(i64::MAX) } else { cutoff },
            until: cutoff.saturating_add(life),
        };
        let added = self.replace(place, |before| {
            let mut entries: Entries = before.entries.clone();
            entries.retain(|_, entry| now < entry.until);
            if entries.len() >= MAX_ENTRIES && !entries.contains_key(&digest) {
                return (None, Err(RevokeError::Full));
            }
            bucket::merge(&mut entries, &Entries::from([(digest, entry)]), now);
            (Some(Bucket::new(entries, before.lost_before, before.watch.clone())), Ok(place))
        });
        added.unwrap_or(Err(RevokeError::Full))
    }

    /// The buckets by which `question` is answered; and which of them others have changed.
    fn buckets(&self, question: &Question) -> Result<(Buckets, SmallVec<[usize; 6]>), Refusal> {
        let (now, mut stale) = (self.clock.now(), SmallVec::new());
        let mut buckets = Buckets::new();
        for digest in &question.digests {
            let place = bucket::place(digest);
            let Some(bucket) = self.bucket(place) else { continue };
            if bucket.revokes(digest, question.issued, now) {
                return Err(Refusal::Revoked);
            }
            if self.shared.is_some() && bucket.is_stale() {
                stale.push(place);
            }
            buckets.push(bucket);
        }
        Ok((buckets, stale))
    }

    /// Answers by what this node knows, also if that isn't all.
    fn answer(&self, question: &Question) -> Result<Standing, Refusal> {
        let (buckets, stale) = self.buckets(question)?;
        let may_be_lost = buckets.iter().any(|bucket| question.issued <= bucket.lost_before);
        if self.lost == Lost::Refuse && may_be_lost {
            return Err(Refusal::RevocationLost);
        }
        let is_unread = || buckets.iter().any(|bucket| bucket.watch.is_none());
        if self.refuses_unread && self.shared.is_some() && is_unread() {
            return Err(Refusal::RevocationUnknown);
        }
        match &self.shared {
            Some(shared) if !stale.is_empty() || !shared.is_reachable() => {
                if shared.away_for() < self.patience {
                    Ok(Standing::once())
                } else {
                    Err(Refusal::RevocationUnknown)
                }
            }
            _ => Ok(Standing::new(Decision { buckets, until: question.until })),
        }
    }
}

impl Revocations for RevocationList {
    fn check(&self, token: &Revocable<'_>) -> Check {
        let inner = &self.inner;
        let Some(issued) = token.claims().iat else {
            return Check::Done(Err(Refusal::missing("iat")));
        };
        let life = if token.is_session() { inner.session_life } else { inner.token_life };
        let until = issued.saturating_add(life);
        if inner.clock.now() >= until {
            return Check::Done(Err(Refusal::TooOld));
        }
        let digests = target::of(token, &inner.claims);
        let question = Question { digests, issued, until };
        if inner.shared.as_deref().is_some_and(Shared::is_reachable) {
            match inner.buckets(&question) {
                Err(refusal) => return Check::Done(Err(refusal)),
                Ok((_, stale)) if !stale.is_empty() => {
                    let answer = move |inner: &Inner| inner.answer(&question);
                    return Check::Waits(shared::look_again(inner, stale.into_vec(), answer));
                }
                Ok(_) => {}
            }
        }
        Check::Done(inner.answer(&question))
    }

    fn revoke(&self, target: Target) -> Revoking {
        let now = self.inner.clock.now();
        // Here first, whatever becomes of the rest, and of the caller.
        let added = self.inner.add(&target, now);
        if let (Ok(place), Some(shared)) = (&added, &self.inner.shared) {
            shared.owe(*place);
        }
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { Ok(shared::spread(inner, added?).await) })
    }

    fn memory(&self) -> Duration {
        self.inner.session_life
    }
}

impl fmt::Debug for RevocationList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationList")
            .field("shared", &self.inner.shared)
            .field("patience", &self.inner.patience)
            .field("lost", &self.inner.lost)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("shared", &self.shared).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_revoked_is_remembered_as_long_as_was_said_and_at_most_as_long_as_all_is() {
        let clock = Clock::manual(NumericDate::from_secs(1_800_000_000));
        let list = RevocationList::builder().clock(clock.clone()).build().unwrap();
        let (inner, minute, day) =
            (&list.inner, Duration::from_secs(60), Duration::from_secs(86_400));
        let token = |id| Target::token("a", id);
        for (target, lasts) in [
            (token("1"), day),
            (token("2").living(minute), minute),
            (token("3").living(Duration::MAX), day),
            (Target::subject("a", "b"), 90 * day),
            (Target::subject("a", "c").living(day), day),
        ] {
            let place = inner.add(&target, clock.now()).unwrap();
            let entry = inner.bucket(place).unwrap().entries[&target.digest()];
            assert_eq!(entry.until, clock.now().saturating_add(lasts), "{target:?}");
        }
    }

    #[test]
    fn a_list_that_goes_on_from_another_knows_all_that_is_revoked_on_either() {
        let clock = Clock::manual(NumericDate::from_secs(1_800_000_000));
        let before = RevocationList::builder().clock(clock.clone()).build().unwrap();
        let builder = RevocationList::builder().clock(clock.clone()).after(&before);
        let one = Target::token("a", "1");
        before.inner.add(&one, clock.now()).unwrap();
        let list = builder.patience(Duration::ZERO).build().unwrap();
        let two = Target::token("a", "2");
        list.inner.add(&two, clock.now()).unwrap();
        for (list, target) in [(&before, &two), (&list, &one)] {
            let bucket = list.inner.bucket(bucket::place(&target.digest())).unwrap();
            assert!(bucket.entries.contains_key(&target.digest()), "{target:?}");
        }
    }

    #[test]
    fn a_part_of_the_list_that_is_full_takes_no_more_until_some_have_run_out() {
        let clock = Clock::manual(NumericDate::from_secs(1_800_000_000));
        let list = RevocationList::builder().clock(clock.clone()).build().unwrap();
        let (target, inner) = (Target::issuer("a"), &list.inner);
        let place = bucket::place(&target.digest());
        let entry = |seconds| {
            let until = clock.now().saturating_add(Duration::from_secs(seconds));
            Entry { cutoff: clock.now(), until }
        };
        let others = |many: usize| -> Entries {
            (0..many as u64).map(|n| (u128::from(n).to_le_bytes(), entry(60 + n))).collect()
        };
        let fill = |many| {
            let bucket = Bucket::new(others(many), NumericDate::from_secs(0), None);
            inner.replace(place, |_| (Some(bucket), ()));
        };
        fill(MAX_ENTRIES);
        assert_eq!(inner.add(&target, clock.now()), Err(RevokeError::Full));
        // What is on it already can be revoked again.
        fill(MAX_ENTRIES - 1);
        assert_eq!(inner.add(&target, clock.now()), Ok(place));
        assert_eq!(inner.add(&target, clock.now()), Ok(place));
        fill(MAX_ENTRIES);
        clock.advance(Duration::from_secs(60));
        assert_eq!(inner.add(&target, clock.now()), Ok(place));
        let bucket = inner.bucket(place).unwrap();
        assert_eq!(bucket.entries.len(), MAX_ENTRIES, "one has run out and made room");
    }
}
