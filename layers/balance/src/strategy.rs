//! By which rule a pool picks.

pub(crate) mod alias;
pub(crate) mod ewma;
pub(crate) mod least;
pub(crate) mod maglev;
pub(crate) mod schedule;

use std::time::Duration;

/// By which rule a pool picks one of its backends.
///
/// | strategy | what it is good for | cost | source |
/// | --- | --- | --- | --- |
/// | [`RoundRobin`](Self::RoundRobin) | requests that are alike | O(1) | nginx's smooth weighted round robin |
/// | [`Random`](Self::Random) | many balancers that don't know of each other | O(1) | alias method (Walker 1977, Vose 1991) |
/// | [`LeastConnections`](Self::LeastConnections) | requests of very different length | O(backends) | `leastconn` of HAProxy |
/// | [`TwoChoices`](Self::TwoChoices) | as that, with many backends | O(1) | Mitzenmacher 2001 |
/// | [`PeakEwma`](Self::PeakEwma) | backends of unequal or changing speed: the default | O(1) | Finagle's `p2cPeakEwma` |
/// | [`Hash`](Self::Hash) | the same client, or key, to the same backend | O(1) | Maglev (Eisenbud et al., NSDI 2016); bounded loads (Mirrokni et al., 2017) |
///
/// All of them heed weights, priorities, health and limits.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Strategy {
    /// In turn, each as often as its weight says, and spread as evenly as can be: with weights 5, 1
    /// and 1 it is a a b a c a a, not five times a in a row.
    RoundRobin,
    /// At random, in proportion to the weights.
    Random,
    /// The one with the fewest requests in flight for its weight; of those that are equal, in turn.
    LeastConnections,
    /// Of two at random, the one with fewer requests in flight for its weight.
    TwoChoices,
    /// Of two at random, the one from which an answer is expected sooner.
    PeakEwma(PeakEwma),
    /// By a hash that the caller brings ([`Wish::hash`](crate::Wish::hash)): the same backend for the
    /// same hash, and when one comes or goes, only about its own share moves. At random for those
    /// who bring none.
    Hash(Hash),
}

impl Default for Strategy {
    fn default() -> Self {
        Self::PeakEwma(PeakEwma::default())
    }
}

/// Settings of [`Strategy::PeakEwma`].
///
/// The expected time is a moving average that follows a slow answer at once, and fast ones
/// gradually; times the requests in flight and one.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct PeakEwma {
    pub(crate) decay: Duration,
    pub(crate) initial: Duration,
}

impl PeakEwma {
    /// Over how long what was measured loses weight: after this, 63 % of it. Default: 10 s.
    pub fn decay(mut self, decay: Duration) -> Self {
        self.decay = decay;
        self
    }

    /// What is assumed of a backend before its first answer. One that comes back is assumed to be no
    /// faster than the others are. Default: 30 ms.
    pub fn initial(mut self, latency: Duration) -> Self {
        self.initial = latency;
        self
    }
}

impl Default for PeakEwma {
    fn default() -> Self {
        Self { decay: Duration::from_secs(10), initial: Duration::from_millis(30) }
    }
}

/// Settings of [`Strategy::Hash`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[must_use]
pub struct Hash {
    pub(crate) bound: Option<u16>,
}

impl Hash {
    /// No backend gets more than `percent` of its fair share of what is in flight; what goes beyond
    /// that goes to the next by its hash. From 101; 125 moves little and bounds well. Default: no
    /// bound.
    pub fn bounded_load(mut self, percent: u16) -> Self {
        self.bound = Some(percent.max(101));
        self
    }
}
