//! What is fetched behind the clients' backs: early, or again after a failure.

use std::sync::Arc;

use http::Response;
use tower_keep_store::{Count, Hit, KeyBuf, Retry, State, Ticket, Timestamp};

use crate::body::CacheBody;
use crate::core::Core;
use crate::judge::{Wish, fallback, judge};
use crate::policy::Reuse;
use crate::respond;
use crate::stored::Stored;

/// What is to be done when a request has its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    Nothing,
    /// Refresh what isn't fresh.
    Refresh,
    /// Refresh what is fresh until then.
    Early(Timestamp),
}

impl Behind {
    fn refresh(refresh: bool) -> Self {
        if refresh { Self::Refresh } else { Self::Nothing }
    }

    /// Until when that is fresh which is to be refreshed all the same.
    pub(crate) fn due(self) -> Option<Timestamp> {
        match self {
            Self::Early(due) => Some(due),
            _ => None,
        }
    }
}

impl Core {
    /// The answer to a request from this entry, at `key`, if it has one that the request need not wait
    /// for.
    #[inline]
    pub(crate) fn serve<B>(
        self: &Arc<Self>,
        key: &KeyBuf,
        hit: &Hit<Stored>,
        wish: Wish<'_>,
        now: Timestamp,
    ) -> Option<(Response<CacheBody<B>>, Behind)> {
        let now_ms = now.as_millis();
        let (stored, reuse) = judge(hit, wish, now_ms)?;
        let behind = match reuse {
            Reuse::Fresh if self.is_due_early(hit, now) => {
                Behind::Early(hit.lifetime().fresh_until)
            }
            Reuse::Fresh | Reuse::Stale => Behind::Nothing,
            Reuse::StaleWhileRevalidate => {
                self.space.count(Count::StaleServed);
                Behind::refresh(self.may_refresh(hit, now))
            }
            Reuse::MustValidate => return self.in_need(key, hit, wish, now),
        };
        let dress = self.dress(key, hit, wish, now);
        Some((respond::dressed(self, stored, wish, now_ms, dress.as_ref()), behind))
    }

    /// Whether this fresh entry is to be refreshed already. One who is told so has that to do.
    #[inline]
    fn is_due_early(&self, hit: &Hit<Stored>, now: Timestamp) -> bool {
        let settings = &self.settings;
        self.space.is_due_early(hit, settings.early_refresh, now, settings.retry_pause)
            // To fetch the rest of a part is for who asks for it.
            && hit.response().is_some_and(|stored| stored.part.is_none())
    }

    /// Whether this entry, which is served though it isn't fresh, is to be refreshed now. One who is
    /// told so has that to do.
    pub(crate) fn may_refresh(&self, hit: &Hit<Stored>, now: Timestamp) -> bool {
        self.may(self.retry(hit, now))
    }

    /// The same from an entry that has to be validated: it stands in at once for an origin that has
    /// failed lately.
    #[cold]
    fn in_need<B>(
        self: &Arc<Self>,
        key: &KeyBuf,
        hit: &Hit<Stored>,
        wish: Wish<'_>,
        now: Timestamp,
    ) -> Option<(Response<CacheBody<B>>, Behind)> {
        // What is fresh was refused by the request, which wants a newer one.
        let stored = fallback(hit, wish, now).filter(|_| hit.state() != State::Fresh)?;
        match self.retry(hit, now) {
            Retry::None => None,
            retry => {
                self.space.count(Count::StaleServed);
                let dress = self.dress(key, hit, wish, now);
                let now_ms = now.as_millis();
                let response = respond::in_need(self, stored, wish, now_ms, dress.as_ref());
                Some((response, Behind::refresh(self.may(retry))))
            }
        }
    }

    fn retry(&self, hit: &Hit<Stored>, now: Timestamp) -> Retry {
        hit.retry(now, self.settings.retry_pause, self.settings.max_fill)
    }

    fn may(&self, retry: Retry) -> bool {
        let is_paused = retry == Retry::Paused;
        if is_paused {
            self.space.count(Count::RetryPaused);
        }
        !is_paused
    }

    /// A refresh of what was found, if anything was, by the fill with `ticket`, has failed.
    pub(crate) fn refresh_failed(&self, ticket: &Ticket, found: Option<&Hit<Stored>>) {
        if let Some(hit) = found {
            self.space.refresh_failed(ticket, hit, self.settings.retry_pause);
        }
    }
}
