//! Settings of [`Sessions`], checked when they are built.

use std::sync::Arc;
use std::time::Duration;

use super::{RefreshStore, Sessions, Terms};
use crate::error::BuildError;
use crate::manager::JwtManager;
use crate::verified::Untyped;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// More than any client needs to ask again.
const MAX_GRACE: Duration = Duration::from_secs(300);

/// Settings of [`Sessions`].
///
/// | setting | default |
/// | --- | --- |
/// | [`idle`](Self::idle) | 14 days |
/// | [`life`](Self::life) | 90 days |
/// | [`grace`](Self::grace) | 10 s |
#[derive(Debug)]
#[must_use]
pub struct SessionsBuilder<C = Untyped> {
    manager: JwtManager<C>,
    store: Arc<dyn RefreshStore>,
    terms: Terms,
}

impl<C> SessionsBuilder<C> {
    pub(crate) fn new(manager: JwtManager<C>, store: Arc<dyn RefreshStore>) -> Self {
        let terms = Terms { idle: 14 * DAY, life: 90 * DAY, grace: Duration::from_secs(10) };
        Self { manager, store, terms }
    }

    /// How long a refresh token may lie unused (RFC 9700 §4.14.2). Default: 14 days.
    pub fn idle(mut self, longest: Duration) -> Self {
        self.terms.idle = longest;
        self
    }

    /// How long a session lasts at most, however often it is refreshed: then its holder has to log in
    /// again. Default: 90 days.
    pub fn life(mut self, longest: Duration) -> Self {
        self.terms.life = longest;
        self
    }

    /// For how long after it was used a refresh token gives the same next one once more: for a client
    /// that lost the answer, or sent two requests at once. Zero: never, and such a client has to log in
    /// again. At most 5 minutes. Default: 10 s.
    ///
    /// A copy that is used in that time, before its owner goes on, isn't noticed until thief and owner
    /// have both gone on from there: then one of the two comes second, and the session ends.
    pub fn grace(mut self, span: Duration) -> Self {
        self.terms.grace = span;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// [`BuildError`], with what to change.
    pub fn build(self) -> Result<Sessions<C>, BuildError> {
        let Self { manager, store, terms } = self;
        if terms.idle < Duration::from_secs(1) || terms.life < terms.idle {
            let text = "`idle` must be a second or more, and `life` no less than `idle`";
            return Err(BuildError::Setting(text));
        }
        if terms.grace > MAX_GRACE || terms.grace >= terms.idle {
            let text = "`grace` must be 5 minutes or less, and less than `idle`: as long as that, a stolen refresh token isn't noticed";
            return Err(BuildError::Setting(text));
        }
        if manager.revocations().is_some_and(|revocations| revocations.memory() < terms.life) {
            let text = "revocations must be remembered for as long as a session may last, or it could be refreshed after; raise `RevocationListBuilder::session_life` to `life`";
            return Err(BuildError::Setting(text));
        }
        Ok(Sessions { manager, store, terms })
    }
}
