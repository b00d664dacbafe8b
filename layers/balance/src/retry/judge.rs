//! Whether there is another attempt, and when.

use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::fate::Fate;
use super::settings::Settings;
use crate::attempt::{Attempt, Backends, Mark};
use crate::grpc::{self, Pushback};
use crate::span::after;

/// Past this many backends, even what costs nothing ends.
const MOST: u32 = 64;

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End<'a> {
    Head(StatusCode, &'a HeaderMap),
    Error(Fate),
    Late,
}

/// How far a request has come.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Whether it may be sent again after it was sent.
    pub(crate) may_repeat: bool,
    /// Attempts, all of them.
    pub(crate) attempts: u32,
    /// And those that were not free.
    pub(crate) counted: u32,
    /// The backends that were tried.
    pub(crate) tried: Backends,
    pub(crate) deadline: Option<Instant>,
}

impl Progress {
    /// The next attempt, and whether it counts.
    pub(crate) fn next(&mut self, counts: bool) -> Attempt {
        self.attempts += 1;
        self.counted += u32::from(counts);
        Attempt::new(self.attempts, self.tried.clone())
    }
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Pass it on.
    Done,
    /// Try again at once, for nothing.
    Free,
    /// Try again.
    After(Duration),
}

impl Settings {
    /// Whether the response is worth another attempt, if that is possible.
    pub(crate) fn is_failure(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let code = || grpc::is_grpc(headers).then(|| grpc::status(headers)).flatten();
        self.is_status(status) || code().is_some_and(|code| self.is_code(code))
    }

    /// What to do after `attempt` ended. Takes from the budget.
    pub(crate) fn judge(&self, progress: &mut Progress, attempt: &Attempt, end: End<'_>) -> Next {
        let headers = match end {
            // If the balancer has no backend for it, it has none for another attempt.
            End::Head(..) if attempt.has(Mark::Refused) => return Next::Done,
            End::Head(status, headers) if !self.is_failure(status, headers) => return Next::Done,
            End::Head(_, headers) => Some(headers),
            End::Error(_) | End::Late => None,
        };
        let backend = attempt.backend();
        let was_called = backend.is_none() || attempt.has(Mark::Called);
        let is_unsent =
            attempt.has(Mark::Unsent) || !was_called || matches!(end, End::Error(Fate::Unsent));
        let is_new = backend.is_some_and(|id| !progress.tried.contains(&id));
        if let (Some(id), true) = (backend, is_new) {
            progress.tried.push(id);
        }
        if is_unsent && is_new && progress.attempts < MOST {
            return Next::Free;
        }
        let is_safe = is_unsent || matches!(end, End::Error(Fate::Refused)) || progress.may_repeat;
        if !is_safe || progress.counted >= self.max_attempts {
            return Next::Done;
        }
        let Some(wait) = self.wait(progress.counted, headers) else { return Next::Done };
        let is_too_late = progress.deadline.is_some_and(|at| after(Instant::now(), wait) >= at);
        if is_too_late || !self.budget.withdraw() {
            return Next::Done;
        }
        Next::After(wait)
    }

    /// How long before the retry `number`, unless the backend asks not to try again.
    fn wait(&self, number: u32, headers: Option<&HeaderMap>) -> Option<Duration> {
        let backoff = self.backoff.wait(number);
        let Some(headers) = headers else { return Some(backoff) };
        let wait = match grpc::pushback(headers) {
            Some(Pushback::After(wait)) => wait,
            Some(Pushback::Never) => return None,
            None => retry_after(headers).unwrap_or_default().max(backoff),
        };
        (wait <= self.max_wait.max(self.backoff.max)).then_some(wait)
    }
}

/// RFC 9110, section 10.2.3: seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}
