//! Single flight across nodes: of all that miss an entry, one has the lease and fetches it, and the
//! others wait until the second tier has the value, or the lease is free.
//!
//! A lease is short, and renewed while its fill runs: so a node that dies, or hangs, is replaced soon.
//! It may wake up after that. So a lease is also a fence: whoever takes it writes a token of its own
//! at the entry's key, and a value is stored only where the token of its fill still lies. Nothing here
//! is needed for what is promised of removals: a fill without a lease is stored under the same rule.
//!
//! Trouble with the second tier never keeps a fill from running; it runs without a lease.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::remote::{Claim, Leased, Term};
use crate::space::Seen;
use crate::store::Inner;

/// No lease is longer.
pub(crate) const LONGEST_LEASE: Duration = Duration::from_secs(60);

/// A shorter one could end before its renewal has reached the second tier.
pub(crate) const SHORTEST_LEASE: Duration = Duration::from_millis(300);

/// For how long nobody waits, where a value has turned out to be for nobody else.
const PASS: Duration = Duration::from_secs(5);

/// How long one who waits rests between two looks: a quarter of the time that it has waited, but no
/// less and no more than this.
const RESTS: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(100)];

/// How many nodes one waits for that don't get a value, after the first. Where an origin is in
/// trouble, they would else wait for each other one by one.
const HANDOVERS: usize = 2;

/// How often what lies at a key may have changed just now.
const CHANGES: usize = 16;

/// The lease of an entry. It is released when this is dropped, unless it [ended](Lease::end) before.
pub(crate) struct Lease {
    inner: Arc<Inner>,
    key: Bytes,
    token: u64,
    hold: Mutex<Hold>,
}

enum Hold {
    /// It has been asked for, and perhaps granted: the answer may have been lost.
    Asked,
    /// It has been granted, and somebody renews it until told how it ends.
    Kept(oneshot::Sender<End>),
    /// It is another's.
    None,
}

/// How a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A value lies in its place.
    Stored,
    /// There is no value, and the next may try.
    Released,
    /// What was fetched is for nobody else. For [some time](PASS), nobody is to wait.
    Passes,
}

impl Lease {
    fn hold(&self) -> MutexGuard<'_, Hold> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is this node's now: renews it until it ends.
    fn keep(&self, span: Duration) {
        let (sender, ended) = oneshot::channel();
        let (inner, key, token) = (Arc::clone(&self.inner), self.key.clone(), self.token);
        self.inner.in_background(async move { renew(&inner, key, token, span, ended).await });
        *self.hold() = Hold::Kept(sender);
    }

    pub(crate) fn end(&self, end: End) {
        if let Hold::Kept(keeper) = std::mem::replace(&mut *self.hold(), Hold::None) {
            // Where the runtime has gone, so has the lease, soon.
            let _ = keeper.send(end);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // One who keeps it notices.
        if matches!(*self.hold(), Hold::Asked) {
            let (inner, key, token) = (Arc::clone(&self.inner), self.key.clone(), self.token);
            self.inner.in_background(async move {
                update(&inner, key, token, Term::Ended).await;
            });
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("token", &self.token).finish_non_exhaustive()
    }
}

/// Renews a lease until it ends; no longer than a fill may take and still be stored.
async fn renew(
    inner: &Arc<Inner>,
    key: Bytes,
    token: u64,
    span: Duration,
    mut ended: oneshot::Receiver<End>,
) {
    let began = Instant::now();
    let end = loop {
        tokio::select! {
            biased;
            end = &mut ended => break end.unwrap_or(End::Released),
            () = sleep(span / 3) => {
                if began.elapsed() >= inner.max_fill {
                    break End::Released;
                }
                if update(inner, key.clone(), token, Term::Renewed(span)).await == Some(false) {
                    inner.counters.lost_leases.add();
                    return;
                }
            }
        }
    };
    let term = match end {
        End::Stored => return,
        End::Released => Term::Ended,
        End::Passes => Term::Passes(PASS),
    };
    update(inner, key, token, term).await;
}

/// Whether the lease still was the one with that token; nothing if that can't be told.
async fn update(inner: &Inner, key: Bytes, token: u64, term: Term) -> Option<bool> {
    let updated = inner.available()?.update_lease(key, token, term).await;
    updated.inspect_err(|error| inner.trouble("lease", error)).ok()
}

/// A fill's turn to ask the origin, among the fills of all nodes.
///
/// Made by [`Space::turn`](crate::Space::turn). Where the store has no
/// [leases](crate::StoreBuilder::lease), it is always this one's.
#[derive(Debug)]
pub struct Turn {
    inner: Arc<Inner>,
    key: Bytes,
    patience: Duration,
    since: Option<Instant>,
    holder: Bytes,
    handovers: usize,
    changes: usize,
}

/// Whose turn it is.
#[derive(Debug)]
pub enum Attempt {
    /// This fill's: it is to ask the origin. What it gets is to be stored with this.
    Go(Seen),
    /// Something else lies in the second tier by now: it is to look again.
    LookAgain,
}

impl Turn {
    pub(crate) fn new(inner: &Arc<Inner>, key: Bytes, patience: Duration) -> Self {
        Self {
            inner: Arc::clone(inner),
            key,
            patience,
            since: None,
            holder: Bytes::new(),
            handovers: 0,
            changes: 0,
        }
    }

    /// Takes the lease, if what was [`seen`](crate::Space::fetch) is still there. If another node has
    /// it, waits until that isn't so, or the patience is used up, or several nodes have had it and got
    /// nothing. Then, and whenever there is trouble, the fill goes on without a lease.
    pub async fn attempt(&mut self, seen: Seen) -> Attempt {
        let (Some(span), Some(expected)) = (self.inner.lease, seen.token.clone()) else {
            return Attempt::Go(seen);
        };
        let (mut expected, mut is_other) = (expected, seen.is_other);
        loop {
            let seen = |token| Seen { is_other, ..Seen::of(token) };
            match self.claim(expected.clone(), span).await {
                Some((Leased::Granted(expected), lease)) => {
                    self.inner.counters.leases.add();
                    lease.keep(span);
                    return Attempt::Go(seen(expected).leased(Some(lease)));
                }
                Some((Leased::Held(left, begins), _)) => {
                    // Whatever that lease was put over may be another thing than what was seen.
                    is_other = true;
                    if !self.wait(&begins, left).await {
                        return Attempt::Go(Seen { is_other, ..Seen::of(begins) });
                    }
                    expected = begins;
                }
                Some((Leased::Passes(begins), _)) => {
                    return Attempt::Go(Seen { is_other: true, ..Seen::of(begins) });
                }
                Some((Leased::Changed, _)) if self.changes < CHANGES => {
                    self.changes += 1;
                    return Attempt::LookAgain;
                }
                Some((Leased::Changed, _)) | None => return Attempt::Go(seen(expected)),
            }
        }
    }

    /// Whether time has passed since the fill began, in which anything may have been invalidated.
    pub fn has_waited(&self) -> bool {
        self.since.is_some()
    }

    /// Asks for the lease. Whatever becomes of the answer, or of the caller, nobody is left with one. It is
    /// seen through, also where the caller is gone: a release that takes another connection could arrive
    /// before what it releases.
    async fn claim(&self, expected: Bytes, span: Duration) -> Option<(Leased, Arc<Lease>)> {
        let (inner, key) = (Arc::clone(&self.inner), self.key.clone());
        let claim = async move {
            let remote = inner.available()?;
            let (token, keep) = (fastrand::u64(..), inner.max_fill);
            let hold = Mutex::new(Hold::Asked);
            let lease = Lease { inner: Arc::clone(&inner), key: key.clone(), token, hold };
            let claimed = remote.lease(Claim { key, expected, token, span, keep }).await;
            let leased = claimed.inspect_err(|error| inner.trouble("lease", error)).ok()?;
            if !matches!(leased, Leased::Granted(_)) {
                *lease.hold() = Hold::None;
            }
            Some((leased, Arc::new(lease)))
        };
        self.inner.see_through(claim).await?
    }

    /// Waits a little, while another has the lease for as long as `left`. Says whether there is any
    /// use in it.
    async fn wait(&mut self, holder: &Bytes, left: Duration) -> bool {
        let since = *self.since.get_or_insert_with(|| {
            self.inner.counters.lease_waits.add();
            Instant::now()
        });
        if self.holder != *holder {
            self.handovers += usize::from(!self.holder.is_empty());
            self.holder = holder.clone();
        }
        let waited = since.elapsed();
        let patience = self.patience.saturating_sub(waited);
        if patience.is_zero() || self.handovers > HANDOVERS {
            return false;
        }
        let [least, most] = RESTS;
        // A little past the end, which is counted in microseconds by another clock.
        let free = left.saturating_add(Duration::from_millis(1));
        sleep((waited / 4).clamp(least, most).min(free).min(patience)).await;
        true
    }
}

impl Seen {
    /// What was fetched is for nobody else: lets the nodes that wait for it, and for five seconds those
    /// that come, ask for themselves at once. Otherwise they would do so one by one. Means nothing
    /// without a [lease](crate::StoreBuilder::lease).
    pub fn passes(&self) {
        self.end(End::Passes);
    }

    pub(crate) fn end(&self, end: End) {
        if let Some(lease) = &self.lease {
            lease.end(end);
        }
    }
}
