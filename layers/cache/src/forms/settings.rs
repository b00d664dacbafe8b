//! The settings of compressed forms.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;

use http::header::{IF_NONE_MATCH, RANGE};
use http::{HeaderMap, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
#[cfg(feature = "dictionary")]
use tower_keep_compress::Delta;
use tower_keep_compress::{
    AcceptEncoding, CompressLayer, Conditions, Encoding, LeaveUncompressed, Levels, Policy,
    ResponseHead,
};

use super::Coding;
use super::tried::Tried;
use crate::core::Core;
use crate::error::ConfigError;
#[cfg(feature = "dictionary")]
use crate::judge::Wish;
#[cfg(feature = "dictionary")]
use crate::stored::StoredResponse;

/// Which compressed forms are kept of stored responses, and how they are made.
///
/// | setting | default |
/// | --- | --- |
/// | [`dense_levels`](Self::dense_levels) | [`Levels::stored`]: br 11, zstd 19, gzip 9 |
/// | [`dense_up_to`](Self::dense_up_to) | 1 MiB |
/// | [`at_once`](Self::at_once) | half of the processors |
///
/// Which responses are compressed, in which codings, and at which level first, is what the
/// [`CompressLayer`] says that it is made of.
#[derive(Clone, Debug)]
#[must_use]
pub struct CompressedForms {
    policy: Policy,
    dense: Levels,
    dense_up_to: usize,
    at_once: usize,
}

impl CompressedForms {
    /// By the settings of a [`CompressLayer`].
    pub fn by(policy: Policy) -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        Self {
            policy,
            dense: Levels::stored(),
            dense_up_to: 1 << 20,
            at_once: processors.div_ceil(2),
        }
    }

    /// The levels of the denser forms, which are made of responses that are asked for again and again.
    pub fn dense_levels(mut self, levels: Levels) -> Self {
        self.dense = levels;
        self
    }

    /// The largest content of which a denser form is made, in bytes; 0 makes none. Brotli takes about
    /// two seconds for 1 MiB at level 11, so none is made of what is fresh for less than 30 s.
    pub fn dense_up_to(mut self, bytes: usize) -> Self {
        self.dense_up_to = bytes;
        self
    }

    /// How many forms are made at the same time, each on a thread of its own; beside them, half as many
    /// (one at the least) that are dense or differences from dictionaries, which take longer and keep
    /// nobody's first form waiting. Three more for each of them wait for their turn, or look whether
    /// another node has made theirs. While a form isn't there, responses are sent as they are. As many
    /// more are decoded, for clients that can't read what came encoded; they wait for it.
    pub fn at_once(mut self, forms: usize) -> Self {
        self.at_once = forms;
        self
    }

    pub(crate) fn build(self) -> Result<Forms, ConfigError> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let Self { policy, dense, dense_up_to, at_once } = self;
        if at_once == 0 {
            return Err(ConfigError::new(
                "no compressed form could be made: `CompressedForms::at_once` must be 1 or more",
            ));
        }
        for encoding in Encoding::enabled() {
            let (level, levels) = (dense.of(encoding), encoding.levels());
            if !levels.contains(&level) {
                return Err(ConfigError::new(format!(
                    "the dense level of {encoding} is {level}: it has {} to {}",
                    levels.start(),
                    levels.end()
                )));
            }
        }
        let (fast, slow) = (Turns::new(at_once), Turns::new(at_once.div_ceil(2)));
        let decoding = permits(at_once);
        let tried = Tried::new();
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Ok(Forms { id, policy, dense, dense_up_to, fast, slow, decoding, tried })
    }
}

impl From<&CompressLayer> for CompressedForms {
    fn from(layer: &CompressLayer) -> Self {
        Self::by(layer.policy().clone())
    }
}

impl From<Policy> for CompressedForms {
    fn from(policy: Policy) -> Self {
        Self::by(policy)
    }
}

/// The same, checked.
pub(crate) struct Forms {
    /// Tells these settings from all others of this process.
    pub(super) id: u64,
    pub(super) policy: Policy,
    pub(super) dense: Levels,
    pub(super) dense_up_to: usize,
    /// For first forms in the usual codings.
    fast: Turns,
    /// For dense ones, and differences.
    slow: Turns,
    /// For those who wait: what is made behind clients' backs may take seconds.
    pub(super) decoding: Arc<Semaphore>,
    pub(super) tried: Tried,
}

/// Those who make forms of a kind.
struct Turns {
    /// Bounds how many there are.
    places: Arc<Semaphore>,
    /// Bounds how many of them encode at the same time.
    encoding: Arc<Semaphore>,
}

impl Turns {
    fn new(at_once: usize) -> Self {
        Self { places: permits(at_once.saturating_mul(4)), encoding: permits(at_once) }
    }
}

fn permits(most: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)))
}

impl Forms {
    fn turns(&self, coding: &Coding, is_dense: bool) -> &Turns {
        if is_dense || coding.is_delta() { &self.slow } else { &self.fast }
    }

    /// Room for one more that is made, if there is some.
    pub(super) fn place(&self, coding: &Coding, is_dense: bool) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns(coding, is_dense).places).try_acquire_owned().ok()
    }

    /// Waits until one may be encoded.
    pub(super) async fn turn(
        &self,
        coding: &Coding,
        is_dense: bool,
    ) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns(coding, is_dense).encoding).acquire_owned().await.ok()
    }

    /// What a request asks by entity tags, if forms are named among them.
    pub(crate) fn conditions(&self, request: &HeaderMap) -> Option<Conditions> {
        let is_conditional = request.contains_key(IF_NONE_MATCH);
        is_conditional
            .then(|| self.policy.conditions(request, &AcceptEncoding::of(request)))
            .flatten()
    }

    /// Makes the head of a 304 one of the form that the client has.
    pub(crate) fn restore(&self, conditions: &Conditions, response: &mut HeaderMap) {
        self.policy.restore(conditions, response);
    }

    /// Whether a request is for the rest of what may be the beginning of an encoded form.
    pub(crate) fn may_continue_encoded(&self, request: &HeaderMap) -> bool {
        request.contains_key(RANGE)
            && self.policy.may_continue_encoded(request, &AcceptEncoding::of(request))
    }
}

#[cfg(feature = "dictionary")]
impl Forms {
    /// How a stored response is told by what the client has, if it has a dictionary that is ours, and
    /// wants it no less than the one in `encoding`, or than the plain one.
    pub(super) fn delta(
        &self,
        stored: &StoredResponse,
        wish: Wish<'_>,
        accept: &AcceptEncoding,
        encoding: Option<Encoding>,
    ) -> Option<Delta> {
        let asked = self.policy.asked_dictionary(wish.method, wish.uri, wish.headers)?;
        let dictionary = asked.available(&stored.headers)?;
        let len = Some(stored.body.len() as u64);
        self.policy.delta(accept, &stored.headers, encoding, len, |coding| {
            Delta::new(coding, Arc::clone(dictionary)).filter(|delta| delta.suits(len))
        })
    }
}

impl Core {
    /// Whether a response that is about to be stored may have forms. How long it is isn't known yet.
    pub(crate) fn has_forms(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let extensions = http::Extensions::new();
        let head = ResponseHead::new(status, headers, &extensions);
        let forms = self.settings.forms.as_ref();
        forms.is_some_and(|forms| forms.policy.offer(&head, u64::MAX).is_ok())
    }

    /// Whether a response is never to be compressed, by what its extensions say, which aren't stored.
    pub(crate) fn is_left_plain(&self, head: &ResponseHead<'_>) -> bool {
        match &self.settings.forms {
            Some(forms) => forms.policy.is_left(head),
            // Another layer over the same entries may compress.
            None => head.extensions().get::<LeaveUncompressed>().is_some(),
        }
    }
}

impl fmt::Debug for Forms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forms").field("policy", &self.policy).finish_non_exhaustive()
    }
}
