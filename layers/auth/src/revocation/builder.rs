//! Settings of a [`RevocationList`], checked when it is built.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::bucket::{BUCKETS, Bucket};
use super::list::{Inner, RevocationList};
use crate::error::BuildError;
use crate::time::Clock;

const HOUR: Duration = Duration::from_secs(3600);

/// What becomes of tokens from before a moment in which the second tier may have forgotten
/// revocations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lost {
    /// They are refused: their holders have to get new ones.
    #[default]
    Refuse,
    /// They are accepted, unless a node knows better.
    Accept,
}

/// Settings of a [`RevocationList`].
///
/// | setting | default |
/// | --- | --- |
/// | [`token_life`](Self::token_life) | 24 hours |
/// | [`session_life`](Self::session_life) | 90 days |
/// | [`by_claim`](Self::by_claim) | none |
/// | [`skew`](Self::skew) | 0 |
/// | [`patience`](Self::patience) | 5 minutes |
/// | [`lost`](Self::lost) | [`Lost::Refuse`] |
/// | [`refuse_unread`](Self::refuse_unread) | no |
/// | [`clock`](Self::clock) | the system's |
#[derive(Debug)]
#[must_use]
pub struct RevocationListBuilder {
    #[cfg(feature = "store")]
    store: Option<tower_keep_store::Store>,
    token_life: Duration,
    session_life: Duration,
    claims: Vec<Box<str>>,
    skew: Duration,
    patience: Duration,
    lost: Lost,
    refuses_unread: bool,
    after: Option<RevocationList>,
    clock: Clock,
}

impl RevocationListBuilder {
    pub(super) fn new() -> Self {
        Self {
            #[cfg(feature = "store")]
            store: None,
            token_life: 24 * HOUR,
            session_life: 90 * 24 * HOUR,
            claims: Vec::new(),
            skew: Duration::ZERO,
            patience: Duration::from_secs(300),
            lost: Lost::default(),
            refuses_unread: false,
            after: None,
            clock: Clock::system(),
        }
    }

    /// Shares the list with all nodes whose stores have the same second tier. That one must not evict:
    /// give Redis the policy `noeviction`, and this a store of its own if there is another for a cache.
    /// Without this, the list is that of one process.
    #[cfg(feature = "store")]
    pub fn store(mut self, store: tower_keep_store::Store) -> Self {
        self.store = Some(store);
        self
    }

    /// How long the longest token lives. For so long the revocation of a token or of a session is
    /// remembered, and a token that is older is refused, whatever its `exp` says. Default: 24 hours.
    pub fn token_life(mut self, longest: Duration) -> Self {
        self.token_life = longest;
        self
    }

    /// How long the longest session lasts. For so long the revocation of anything else is remembered.
    /// Default: 90 days, that of [`Sessions`](crate::Sessions); without these, `token_life` is enough.
    pub fn session_life(mut self, longest: Duration) -> Self {
        self.session_life = longest;
        self
    }

    /// A claim by whose values tokens can be revoked: [`Target::claim`](super::Target::claim). Can be
    /// called several times.
    pub fn by_claim(mut self, name: impl Into<String>) -> Self {
        self.claims.push(name.into().into_boxed_str());
        self
    }

    /// How far the clock of an issuer may be ahead of that of the node that revokes: what was issued for
    /// so long after a revocation is revoked, too, if it is of the same subject, client, claim or
    /// issuer. At most 10 minutes. Default: 0. A token whose `iat` is in whole seconds is taken for as
    /// old as the second, so what is issued in the second of a revocation is covered anyway; see
    /// [`JwtManagerBuilder::precise`](crate::JwtManagerBuilder::precise).
    pub fn skew(mut self, skew: Duration) -> Self {
        self.skew = skew;
        self
    }

    /// For how long a node that lost the second tier goes by what it knows: past that, it refuses all
    /// tokens with [`Refusal::RevocationUnknown`](crate::Refusal::RevocationUnknown). Default: 5
    /// minutes, for a restart or a failover take less and most tokens live longer. Zero refuses at once;
    /// [`Duration::MAX`] never does, and then a revocation made elsewhere meanwhile is late by as much
    /// as the outage lasts, or by the rest of the token's life if that is less.
    pub fn patience(mut self, longest: Duration) -> Self {
        self.patience = longest;
        self
    }

    /// What becomes of tokens from before a moment in which revocations may have been lost: the second
    /// tier was flushed, or came back empty. Default: they are refused. It is of no consequence for
    /// what was issued later. The first use of a second tier counts as such a moment, so
    /// [`Lost::Accept`] may be right for the first day.
    pub fn lost(mut self, lost: Lost) -> Self {
        self.lost = lost;
        self
    }

    /// Whether a token is refused, with [`Refusal::RevocationUnknown`](crate::Refusal::RevocationUnknown),
    /// of which this node has never read on the second tier whether it is revoked, also within the
    /// [`patience`](Self::patience). All of it is read when the node first reaches that. Default: no, so
    /// that a node that starts during an outage accepts what was revoked before, until it is over.
    pub fn refuse_unread(mut self, refuses: bool) -> Self {
        self.refuses_unread = refuses;
        self
    }

    /// Goes on from a list with other settings: what was revoked on it, until then or later, is on both,
    /// as is what the second tier has yet to hear of. What was revoked is remembered for as long as it
    /// was to be by then. It takes the place of a [`store`](Self::store).
    pub fn after(mut self, list: &RevocationList) -> Self {
        self.after = Some(list.clone());
        self
    }

    /// The clock by which revocations are made and run out.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Checks the settings. With a store, this must be called inside a Tokio runtime.
    ///
    /// # Errors
    ///
    /// [`BuildError`], with what to change.
    pub fn build(self) -> Result<RevocationList, BuildError> {
        if self.token_life < Duration::from_secs(1) || self.session_life < self.token_life {
            let text =
                "`token_life` must be a second or more, and `session_life` no less than that";
            return Err(BuildError::Setting(text));
        }
        if self.skew > Duration::from_secs(600) {
            let text = "a `skew` of more than 10 minutes revokes what was issued long after; set the clocks";
            return Err(BuildError::Setting(text));
        }
        if self.claims.iter().any(|name| name.is_empty()) {
            let text = "`by_claim` was given an empty name; give it that of a claim";
            return Err(BuildError::Setting(text));
        }
        #[cfg(feature = "store")]
        if self.after.is_some() && self.store.is_some() {
            let text = "a list that goes on `after` another has its store; leave `store` out";
            return Err(BuildError::Setting(text));
        }
        #[cfg(feature = "store")]
        let shared = self.store.map(super::shared::Shared::new).transpose()?.map(Arc::new);
        #[cfg(not(feature = "store"))]
        let shared = None;
        let (cells, writing, shared) = if let Some(list) = &self.after {
            let Inner { cells, writing, shared, .. } = &**list.inner();
            (Arc::clone(cells), Arc::clone(writing), shared.clone())
        } else {
            let cells = (0..BUCKETS).map(|_| ArcSwap::from_pointee(Bucket::empty()));
            (cells.collect(), Arc::default(), shared)
        };
        let inner = Arc::new(Inner {
            cells,
            writing,
            claims: self.claims,
            token_life: self.token_life,
            session_life: self.session_life,
            skew: self.skew,
            patience: self.patience,
            lost: self.lost,
            refuses_unread: self.refuses_unread,
            clock: self.clock,
            shared,
        });
        #[cfg(feature = "store")]
        super::shared::keep_up(&inner);
        Ok(RevocationList::new(inner))
    }
}
