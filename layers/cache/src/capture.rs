//! Keeps a copy of a part (206) while it passes, and stores it once it is complete.

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, SET_COOKIE};
use http::{HeaderMap, Response, StatusCode};
use http_body::Body;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tower_keep_compress::ResponseHead;
use tower_keep_store::{Hit, Tag};

use crate::budget::Reservation;
use crate::commit::{Commit, Fetched};
use crate::conditional::{Validators, remove_digests};
use crate::core::{Core, Place};
use crate::fill::far;
use crate::part::{Received, join};
use crate::plan::{Plan, Times, with_date};
use crate::policy::{SetCookie, StoredTimes};
use crate::renewal::set_aside;
use crate::respond::Asked;
use crate::shared::MIN_CHARGE;
use crate::solo::Hold;
use crate::stored::{Stored, StoredResponse, stored_headers};
use crate::vary::VaryRule;

/// A copy in the making.
pub(crate) struct Capture {
    core: Arc<Core>,
    asked: Asked,
    place: Place,
    hold: Hold,
    received: Received,
    /// What was stored when this one was asked for.
    found: Option<Hit<Stored>>,
    headers: HeaderMap,
    /// It is never to be compressed.
    plain_only: bool,
    times: StoredTimes,
    vary: VaryRule,
    tags: Vec<Tag>,
    chunks: Vec<Bytes>,
    len: usize,
    reservation: Reservation,
    /// What comes later is not stored.
    deadline: Instant,
}

impl Capture {
    /// Begins a copy of a 206 response, if it may be stored and is worth it. `asked` is the request,
    /// by which it may be; `found` what lies at `place`.
    pub(crate) fn of<B: Body>(
        core: &Arc<Core>,
        asked: Asked,
        times: Times,
        place: Place,
        hold: Hold,
        found: Option<Hit<Stored>>,
        response: &Response<B>,
    ) -> Option<Self> {
        let received = Received::of(response.headers())?;
        if received.len > core.settings.max_body {
            return None;
        }
        let there = found.as_deref().and_then(Stored::response);
        let version = Validators::from_headers(response.headers());
        if there.is_some_and(|there| there.part.is_none() && !differ(&version, &there.validators)) {
            // The whole is there, and needs only to be validated.
            return None;
        }
        let plan = core.settings.plan_as_whole(&asked, times, response).ok()?;
        let Plan { lifetime, vary, tags, omit } = plan;
        let whole = ResponseHead::new(StatusCode::OK, response.headers(), response.extensions());
        let plain_only = core.is_left_plain(&whole);
        let mut headers = stored_headers(response.headers());
        with_date(&mut headers, times);
        set_aside(&mut headers, &omit);
        set_aside(&mut headers, &[CONTENT_RANGE, CONTENT_LENGTH]);
        remove_digests(&mut headers);
        if asked.policy.set_cookie != SetCookie::Store {
            headers.remove(SET_COOKIE);
        }
        // Of the pool of what passes: it goes at the pace of its one reader.
        let mut reservation = core.budget.reservation();
        reservation.pass();
        Some(Self {
            core: Arc::clone(core),
            asked,
            place,
            hold,
            received,
            found,
            headers,
            plain_only,
            times: StoredTimes::new(&lifetime, times.response_ms),
            vary,
            tags,
            chunks: Vec::new(),
            len: 0,
            reservation,
            deadline: far(core.settings.max_fill),
        })
    }

    /// Adds what has passed; tells whether it is still worth going on.
    pub(crate) fn push(&mut self, data: &Bytes) -> bool {
        self.len += data.len();
        let goes_on = self.len <= self.received.len
            && Instant::now() < self.deadline
            && self.reservation.grow(data.len().max(MIN_CHARGE));
        if goes_on {
            self.chunks.push(data.clone());
        }
        goes_on
    }

    /// Whether all of it has passed.
    pub(crate) fn is_complete(&self) -> bool {
        self.len == self.received.len
    }

    /// Stores the copy, now that it is complete; in a task, as the one who reads need not wait.
    pub(crate) fn finish(self) {
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(self.store());
        }
    }

    async fn store(self) {
        let Self { core, asked, place, hold, received, found, headers, times, vary, .. } = self;
        let (mut tags, plain_only) = (self.tags, self.plain_only);
        let mut body = BytesMut::with_capacity(self.len);
        for chunk in &self.chunks {
            body.extend_from_slice(chunk);
        }
        let fresh = StoredResponse {
            part: Some(received.part),
            plain_only,
            ..StoredResponse::new(StatusCode::OK, &headers, body.freeze(), None, times)
        };
        // Another may have stored something meanwhile.
        let now = core.now();
        let there = core.space.peek(core.space.key(place.key()), now);
        let there = there.or_else(|| found.and_then(|hit| hit.again(now)));
        let mut response = fresh;
        if let Some((hit, stored)) = there.as_ref().and_then(|hit| Some((hit, hit.response()?))) {
            if stored.part.is_none() && !differ(&response.validators, &stored.validators) {
                return;
            }
            if let Some(both) = united(stored, &response, core.settings.max_body) {
                response = both;
                hold.ticket.builds_on(hit);
                // It is invalidated by the tags of either.
                let more: Vec<Tag> =
                    hit.all_tags().filter(|tag| !tags.contains(tag)).cloned().collect();
                tags.extend(more);
            }
        }
        let commit = Commit {
            core: &core,
            ticket: &hold.ticket,
            place: &place,
            asked: &asked,
            seen: hold.seen,
        };
        commit.store(Fetched { response, vary, tags }).await;
    }
}

/// Whether these are of different versions, for all that is known.
fn differ(a: &Validators, b: &Validators) -> bool {
    matches!((a.strong_etag(), b.strong_etag()), (Some(a), Some(b)) if a != b)
}

/// What was there and what came as one response, if they are of one version and touch (RFC 9110
/// §15.3.7.3); its head is the later one's.
fn united(there: &StoredResponse, new: &StoredResponse, limit: usize) -> Option<StoredResponse> {
    let (old_part, new_part) = (there.part?, new.part?);
    if new.validators.strong_etag()? != there.validators.strong_etag()? {
        return None;
    }
    let (part, body) = join((old_part, &there.body), (new_part, &new.body), limit)?;
    // What is said of a part is said of the whole: which one holds the secret isn't known.
    let plain_only = there.plain_only || new.plain_only;
    if body.len() < part.of {
        return Some(StoredResponse { part: Some(part), body, plain_only, ..new.clone() });
    }
    let mut headers = new.headers.clone();
    headers.insert(CONTENT_LENGTH, body.len().into());
    let whole = StoredResponse::new(StatusCode::OK, &headers, body, None, new.times);
    Some(StoredResponse { plain_only, ..whole })
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture")
            .field("received", &self.received)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
