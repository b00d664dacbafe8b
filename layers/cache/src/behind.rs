//! What is fetched behind the clients' backs: early, or again after a failure.

use std::sync::Arc;

use http::Response;
use tower_keep_store::{Count, Found, Hit, KeyBuf, Retry, State, Ticket, Timestamp};

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
    /// for. `behind` becomes what is to be done then: it is an argument so that a hit doesn't move
    /// responses about.
    #[inline]
    pub(crate) fn serve<B>(
        self: &Arc<Self>,
        key: &KeyBuf,
        found: Found<'_, Stored>,
        wish: Wish<'_>,
        now: Timestamp,
        behind: &mut Behind,
    ) -> Option<Response<CacheBody<B>>> {
        let now_ms = now.as_millis();
        let (stored, reuse) = judge(found, wish, now_ms)?;
        *behind = match reuse {
            Reuse::Fresh if self.is_due_early(found, now) => {
                Behind::Early(found.lifetime().fresh_until)
            }
            Reuse::Fresh | Reuse::Stale => Behind::Nothing,
            Reuse::StaleWhileRevalidate => {
                self.space.count(Count::StaleServed);
                Behind::refresh(self.may_refresh(found, now))
            }
            Reuse::MustValidate => return self.in_need(key, found, wish, now, behind),
        };
        let dress = self.dress(key, found, wish, now);
        Some(respond::dressed(self, stored, wish, now_ms, dress.as_ref()))
    }

    /// Whether this fresh entry is to be refreshed already. One who is told so has that to do.
    #[inline]
    fn is_due_early(&self, found: Found<'_, Stored>, now: Timestamp) -> bool {
        let settings = &self.settings;
        self.space.is_due_early(found, settings.early_refresh, now, settings.retry_pause)
            // To fetch the rest of a part is for who asks for it.
            && found.response().is_some_and(|stored| stored.part.is_none())
    }

    /// Whether this entry, which is served though it isn't fresh, is to be refreshed now. One who is
    /// told so has that to do.
    pub(crate) fn may_refresh(&self, found: Found<'_, Stored>, now: Timestamp) -> bool {
        self.may(self.retry(found, now))
    }

    /// The same from an entry that has to be validated: it stands in at once for an origin that has
    /// failed lately.
    #[cold]
    fn in_need<B>(
        self: &Arc<Self>,
        key: &KeyBuf,
        found: Found<'_, Stored>,
        wish: Wish<'_>,
        now: Timestamp,
        behind: &mut Behind,
    ) -> Option<Response<CacheBody<B>>> {
        // What is fresh was refused by the request, which wants a newer one.
        let stored = fallback(found, wish, now).filter(|_| found.state() != State::Fresh)?;
        match self.retry(found, now) {
            Retry::None => None,
            retry => {
                self.space.count(Count::StaleServed);
                let dress = self.dress(key, found, wish, now);
                let now_ms = now.as_millis();
                *behind = Behind::refresh(self.may(retry));
                Some(respond::in_need(self, stored, wish, now_ms, dress.as_ref()))
            }
        }
    }

    fn retry(&self, found: Found<'_, Stored>, now: Timestamp) -> Retry {
        found.retry(now, self.settings.retry_pause, self.settings.max_fill)
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
