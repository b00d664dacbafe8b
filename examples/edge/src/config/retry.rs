//! `[pool.NAME.retry]`: which requests are sent again, and how often.

use std::time::Duration;

use bytesize::ByteSize;
use http::StatusCode;
use tower_keep_balance::retry::{Backoff, Budget, Hedge, RetryBuilder};
use tower_keep_balance::{BuildError, RetryLayer};

use super::listener::positive_or_none;
use super::table::Table;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Retry {
    pub(super) attempts: u32,
    pub(super) timeout: Option<Duration>,
    pub(super) try_timeout: Option<Duration>,
    budget: (u32, u32),
    backoff: Backoff,
    max_wait: Duration,
    statuses: Vec<StatusCode>,
    replay_limit: usize,
    idempotency_key: bool,
    hedge: Option<Hedge>,
}

impl Retry {
    /// Of a pool whose only backend says that it can't, nobody else is to be asked: `is_alone`.
    pub(super) fn read(pool: &Table<'_>, is_alone: bool) -> Self {
        let timeout = positive_or_none(pool, "timeout", None);
        let mut standard = Self { timeout, ..Self::default() };
        if is_alone {
            standard.statuses.clear();
        }
        let Some(table) = pool.table("retry") else { return standard };
        let first = table.or("backoff", Duration::from_millis(25));
        let longest = table.or("max_backoff", Duration::from_millis(250));
        let limit = table.or("replay_limit", ByteSize::kib(64)).as_u64();
        let retry = Self {
            attempts: table.within("attempts", standard.attempts, 1..=100),
            timeout,
            try_timeout: positive_or_none(&table, "try_timeout", None),
            budget: (table.or("budget_percent", 20), table.or("budget_per_second", 10)),
            backoff: Backoff::new(first, longest),
            max_wait: table.or("max_wait", standard.max_wait),
            statuses: table.or("statuses", standard.statuses),
            replay_limit: usize::try_from(limit).unwrap_or(usize::MAX),
            idempotency_key: table.or("idempotency_key", false),
            hedge: hedge(&table),
        };
        retry.check(&table);
        retry
    }

    /// Whether it can work is said of `table`, in the names of the file.
    pub(super) fn check(&self, table: &Table<'_>) {
        let renamed = |why: BuildError| {
            let why = why.to_string().replace("max_attempts", "attempts");
            why.replace("per_try_timeout", "try_timeout").replace("deadline", "timeout")
        };
        let _ = table.check(self.builder().build().map_err(renamed));
    }

    /// The settings of a layer.
    pub(crate) fn builder(&self) -> RetryBuilder {
        let builder = RetryLayer::builder()
            .max_attempts(self.attempts)
            .budget(Budget::new(self.budget.0, self.budget.1))
            .backoff(self.backoff)
            .max_wait(self.max_wait)
            .statuses(self.statuses.iter().copied())
            .replay_limit(self.replay_limit);
        let builder = self.timeout.into_iter().fold(builder, RetryBuilder::deadline);
        let builder = self.try_timeout.into_iter().fold(builder, RetryBuilder::per_try_timeout);
        let builder = if self.idempotency_key { builder.idempotency_key() } else { builder };
        self.hedge.into_iter().fold(builder, RetryBuilder::hedge)
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            timeout: None,
            try_timeout: None,
            budget: (20, 10),
            backoff: Backoff::default(),
            max_wait: Duration::from_secs(1),
            statuses: vec![
                StatusCode::BAD_GATEWAY,
                StatusCode::SERVICE_UNAVAILABLE,
                StatusCode::GATEWAY_TIMEOUT,
            ],
            replay_limit: 64 << 10,
            idempotency_key: false,
            hedge: None,
        }
    }
}

/// After a time, or behind a percentile, as in `p95`.
fn hedge(table: &Table<'_>) -> Option<Hedge> {
    let text = table.or_none::<String>("hedge", None)?;
    let percentile = text.strip_prefix('p').and_then(|number| number.parse().ok());
    let hedge = percentile.map(Hedge::percentile);
    let hedge = hedge.or_else(|| humantime::parse_duration(&text).ok().map(Hedge::after));
    if hedge.is_none() {
        table.refuse(
            "hedge",
            "expected a time such as \"50ms\", a percentile such as \"p95\", or \"none\"",
        );
    }
    hedge
}
