//! The future of a call: attempts, one after another, and at times two at once.
//!
//! One timer serves whatever is due next: the deadline, the end of an attempt's time, the moment to
//! hedge, and the end of a wait. An attempt begins in `starting`, until the service is ready for
//! it, and then runs in `first`, or in `second` if it is a hedge. One that fails while the other
//! still runs is forgotten; when the last one fails, `judge` says whether there is another, which
//! begins at `resume_at`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_service::Service;

use super::fate::ErrorFate;
use super::judge::{End, Next, Progress};
use super::replay::{ReplayBody, Source};
use super::service::Core;
use crate::answer::{Answer, Refusal};
use crate::attempt::{Attempt, Backends, Mark};
use crate::grpc;
use crate::span::after;

pin_project! {
    #[project = RetryProj]
    /// The future of [`Retry`](super::Retry). Dropped, it drops all attempts.
    pub struct RetryFuture<S, B, F>
    where
        S: Service<Request<ReplayBody<B>>>,
    {
        service: S,
        #[pin]
        first: Option<S::Future>,
        first_run: Option<Run>,
        // Hedges are rare, so it is boxed.
        second: Option<(Pin<Box<S::Future>>, Run)>,
        #[pin]
        timer: Option<Sleep>,
        rest: Rest<B, F>,
    }
}

/// What isn't pinned.
struct Rest<B, F> {
    core: Arc<Core<F>>,
    head: Parts,
    source: Source<B>,
    progress: Progress,
    is_grpc: bool,
    /// Whether the deadline is in the settings, and not the client's.
    is_deadline_ours: bool,
    began: Instant,
    starting: Option<Start>,
    hedge_at: Option<Instant>,
    /// When the next attempt begins, and whether it counts.
    resume_at: Option<(Instant, bool)>,
}

/// An attempt for which the service isn't ready yet.
struct Start {
    attempt: Attempt,
    is_hedge: bool,
}

/// An attempt in flight.
#[derive(Clone)]
struct Run {
    attempt: Attempt,
    /// The end of its time.
    until: Option<Instant>,
}

impl<S, B, F, ResBody> RetryFuture<S, B, F>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<ResBody>>,
    B: Body,
{
    /// Calls `service`, which is ready.
    pub(crate) fn new(mut service: S, core: Arc<Core<F>>, request: Request<B>) -> Self {
        let settings = &core.settings;
        settings.budget.deposit();
        let (head, body) = request.into_parts();
        let is_grpc = grpc::is_grpc(&head.headers);
        let clients = if is_grpc { grpc::timeout(&head.headers) } else { None };
        let is_deadline_ours =
            settings.deadline.is_some_and(|ours| clients.is_none_or(|theirs| ours <= theirs));
        let time = if is_deadline_ours { settings.deadline } else { clients };
        let began = Instant::now();
        let may_repeat = settings.may_repeat(&head);
        let mut progress = Progress {
            may_repeat,
            attempts: 0,
            counted: 0,
            tried: Backends::new(),
            deadline: time.and_then(|time| began.checked_add(time)),
        };
        let hedge = settings.hedge_delay().filter(|_| may_repeat);
        let attempt = progress.next(true);
        let rest = Rest {
            source: Source::new(body, settings.replay_limit),
            head,
            progress,
            is_grpc,
            is_deadline_ours,
            began,
            starting: None,
            hedge_at: hedge.map(|delay| after(began, delay)),
            resume_at: None,
            core,
        };
        let request = rest.request(&attempt, false);
        let first = Some(service.call(request));
        let first_run = Some(rest.run(attempt));
        Self { service, first, first_run, second: None, timer: None, rest }
    }
}

impl<B, F> Rest<B, F> {
    /// The request of `attempt`.
    fn request(&self, attempt: &Attempt, is_hedge: bool) -> Request<ReplayBody<B>>
    where
        B: Body,
    {
        let body = if is_hedge {
            self.source.beside(attempt.clone())
        } else {
            self.source.body(attempt.clone())
        };
        let mut head = self.head.clone();
        head.extensions.insert(attempt.clone());
        Request::from_parts(head, body)
    }

    fn run(&self, attempt: Attempt) -> Run {
        let until = self.core.settings.per_try.map(|time| after(Instant::now(), time));
        Run { attempt, until }
    }

    /// Whether there is another attempt after `attempt`, which was the only one. If so, prepares it.
    fn goes_on(&mut self, attempt: &Attempt, end: End<'_>) -> bool
    where
        B: Body,
    {
        self.hedge_at = None;
        if !self.source.is_replayable() {
            return false;
        }
        let next = self.core.settings.judge(&mut self.progress, attempt, end);
        let (wait, counts) = match next {
            Next::Done => return false,
            Next::Free => (Duration::ZERO, false),
            Next::After(wait) => (wait, true),
        };
        let number = attempt.number();
        tracing::debug!(attempt = number, backend = ?attempt.backend(), ?end, ?wait, "tries again");
        if wait.is_zero() {
            self.start(counts, false);
        } else {
            self.resume_at = Some((after(Instant::now(), wait), counts));
        }
        true
    }

    fn start(&mut self, counts: bool, is_hedge: bool) {
        self.starting = Some(Start { attempt: self.progress.next(counts), is_hedge });
    }

    /// Begins to hedge the attempt `first`, if it may.
    fn hedge(&mut self, first: &Attempt)
    where
        B: Body,
    {
        let settings = &self.core.settings;
        let may = self.progress.counted < settings.max_attempts && self.source.is_whole();
        if !may || !settings.budget.withdraw() {
            return;
        }
        let before = self.progress.tried.len();
        self.progress.tried.extend(first.backend());
        tracing::debug!(backend = ?first.backend(), "hedges");
        self.start(true, true);
        // It hasn't failed, as the others in the list have.
        self.progress.tried.truncate(before);
    }

    /// What to answer when time is up.
    fn late<ResBody: Default>(&self) -> Response<ResBody> {
        let (status, code) = (StatusCode::GATEWAY_TIMEOUT, grpc::DEADLINE_EXCEEDED);
        let text = "no backend has answered in time";
        let why = Some(Refusal::Deadline);
        Answer { status, code, text, retry_after: None, why }.response(self.is_grpc)
    }
}

/// What came of an attempt.
enum Ended<R, E> {
    Answer(Result<R, E>),
    Late,
}

type EndedRun<R, E> = (Ended<R, E>, Run);

impl<S, B, F, ResBody> Future for RetryFuture<S, B, F>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<ResBody>>,
    F: ErrorFate<S::Error>,
    B: Body,
    ResBody: Default,
{
    type Output = Result<Response<ResBody>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let ended = match poll_attempts(&mut this, cx) {
                Some(ended) => Some(ended),
                None => match poll_timer(&mut this, cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Due::Again) => continue,
                    Poll::Ready(Due::Late(run)) => Some((Ended::Late, run)),
                    Poll::Ready(Due::Deadline) => None,
                },
            };
            let rest = &mut *this.rest;
            let others = this.first_run.is_some()
                || this.second.is_some()
                || rest.starting.as_ref().is_some_and(|start| start.is_hedge);
            let response = match ended {
                None => Ok(rest.late()),
                // The other one may still succeed.
                Some((Ended::Answer(Err(_)) | Ended::Late, run)) if others => {
                    rest.progress.tried.extend(run.attempt.backend());
                    continue;
                }
                Some((Ended::Late, run)) => {
                    if rest.goes_on(&run.attempt, End::Late) {
                        continue;
                    }
                    Ok(rest.late())
                }
                Some((Ended::Answer(Err(error)), run)) => {
                    let fate = rest.core.fate.fate(&error);
                    if rest.goes_on(&run.attempt, End::Error(fate)) {
                        continue;
                    }
                    Err(error)
                }
                Some((Ended::Answer(Ok(response)), run)) => {
                    let (status, headers) = (response.status(), response.headers());
                    if rest.core.settings.is_failure(status, headers) {
                        if others {
                            rest.progress.tried.extend(run.attempt.backend());
                            continue;
                        }
                        if rest.goes_on(&run.attempt, End::Head(status, headers)) {
                            continue;
                        }
                    } else if rest.core.settings.hedge.is_some() {
                        rest.core.settings.latencies.observe(rest.began.elapsed());
                    }
                    Ok(response)
                }
            };
            // Those that have lost are dropped, and nothing more of the body is kept.
            this.first.set(None);
            *this.first_run = None;
            *this.second = None;
            rest.source.give_up();
            return Poll::Ready(response);
        }
    }
}

/// Begins and polls attempts. Some if one of them has ended.
fn poll_attempts<S, B, F, ResBody>(
    this: &mut RetryProj<'_, S, B, F>,
    cx: &mut Context<'_>,
) -> Option<EndedRun<Response<ResBody>, S::Error>>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<ResBody>>,
    B: Body,
{
    if this.rest.starting.is_some()
        && let Poll::Ready(ready) = this.service.poll_ready(cx)
        && let Some(Start { attempt, is_hedge }) = this.rest.starting.take()
    {
        if let Err(error) = ready {
            attempt.mark(Mark::Unsent);
            return Some((Ended::Answer(Err(error)), Run { attempt, until: None }));
        }
        let future = this.service.call(this.rest.request(&attempt, is_hedge));
        let run = this.rest.run(attempt);
        if is_hedge {
            *this.second = Some((Box::pin(future), run));
        } else {
            this.first.set(Some(future));
            *this.first_run = Some(run);
        }
    }
    if let Some(future) = this.first.as_mut().as_pin_mut()
        && let Poll::Ready(result) = future.poll(cx)
    {
        this.first.set(None);
        return this.first_run.take().map(|run| (Ended::Answer(result), run));
    }
    let (future, _) = this.second.as_mut()?;
    let Poll::Ready(result) = future.as_mut().poll(cx) else { return None };
    this.second.take().map(|(_, run)| (Ended::Answer(result), run))
}

/// What was due.
enum Due {
    /// Something that has been seen to.
    Again,
    /// The end of an attempt's time. It was dropped.
    Late(Run),
    /// The deadline.
    Deadline,
}

fn poll_timer<S, B, F>(this: &mut RetryProj<'_, S, B, F>, cx: &mut Context<'_>) -> Poll<Due>
where
    S: Service<Request<ReplayBody<B>>>,
    B: Body,
{
    let deadline = this.rest.progress.deadline;
    let first = this.first_run.as_ref().and_then(|run| run.until);
    let second = this.second.as_ref().and_then(|(_, run)| run.until);
    let resume = this.rest.resume_at.map(|(at, _)| at);
    let all = [deadline, first, second, this.rest.hedge_at, resume];
    let Some(next) = all.into_iter().flatten().min() else { return Poll::Pending };
    if this.timer.is_none() {
        this.timer.set(Some(sleep_until(next)));
    }
    let Some(mut timer) = this.timer.as_mut().as_pin_mut() else { return Poll::Pending };
    if timer.deadline() != next {
        timer.as_mut().reset(next);
    }
    ready!(timer.poll(cx));
    let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= next);
    if is_due(deadline) {
        if this.rest.is_deadline_ours {
            let runs = this.first_run.iter().chain(this.second.as_ref().map(|(_, run)| run));
            runs.for_each(|run| run.attempt.mark(Mark::TimedOut));
        }
        return Poll::Ready(Due::Deadline);
    }
    let mut late = None;
    if is_due(first) {
        late = this.first_run.take();
    } else if is_due(second) {
        late = this.second.as_mut().map(|(_, run)| Run { until: None, ..run.clone() });
    }
    if let Some(run) = late {
        // Before it is dropped, which tells of the backend.
        run.attempt.mark(Mark::TimedOut);
        if is_due(first) {
            this.first.set(None);
        } else {
            *this.second = None;
        }
        return Poll::Ready(Due::Late(run));
    }
    if is_due(resume) {
        if let Some((_, counts)) = this.rest.resume_at.take() {
            this.rest.start(counts, false);
        }
    } else if is_due(this.rest.hedge_at) {
        this.rest.hedge_at = None;
        if let Some(run) = this.first_run.as_ref() {
            this.rest.hedge(&run.attempt);
        }
    }
    Poll::Ready(Due::Again)
}

impl<S, B, F> fmt::Debug for RetryFuture<S, B, F>
where
    S: Service<Request<ReplayBody<B>>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryFuture").field("progress", &self.rest.progress).finish_non_exhaustive()
    }
}
