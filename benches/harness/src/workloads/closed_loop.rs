//! What all comparisons over sockets share: each server is loaded in turn, round after round, so that a
//! machine that gets slower gets slower for all of them.

use crate::BoxError;
use crate::fleet::{Contender, Fleet};
use crate::progress;
use crate::report::{Figure, Plot, Table};
use crate::samples::Samples;
use crate::wrk::Done;

/// Connections that ask one request after the other.
pub(super) const CONNECTIONS: u32 = 64;

/// What was measured of one server.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// Requests a second.
    pub(super) rate: Samples,
    /// Microseconds of processor time a request, of the server.
    pub(super) micros: Samples,
    /// Percent of the server's core.
    share: Samples,
    /// Microseconds that 99 % of requests did not exceed.
    pub(super) slow: Samples,
    /// Percent of requests for which the handler was called.
    pub(super) asked: Samples,
    /// Answers that weren't.
    errors: u64,
    /// Why it could not be measured to the end.
    failure: Option<String>,
}

/// Loads each of them in so many rounds; after one that doesn't count, if there are several.
pub(super) fn measure(
    what: &str,
    fleet: &Fleet,
    rounds: usize,
    load: impl Fn(&Contender) -> Result<Done, BoxError>,
) -> Vec<Measured> {
    let mut all: Vec<Measured> = fleet.contenders.iter().map(|_| Measured::default()).collect();
    let warm = usize::from(rounds > 1);
    let bar = progress::bar(what, (rounds + warm) * all.len());
    for round in 0..rounds + warm {
        for (contender, measured) in fleet.contenders.iter().zip(&mut all) {
            if measured.failure.is_none() {
                let result = measured.round(contender, &load, round >= warm);
                measured.failure = result.err().map(|error| error.to_string());
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    all
}

impl Measured {
    /// One round of it.
    pub(super) fn round(
        &mut self,
        contender: &Contender,
        load: &impl Fn(&Contender) -> Result<Done, BoxError>,
        counts: bool,
    ) -> Result<(), BoxError> {
        let (before, calls) = (contender.member.processor_time()?, contender.calls()?);
        let done = load(contender)?;
        let used = contender.member.processor_time()?.saturating_sub(before).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^52")]
        let calls = (contender.calls()? - calls) as f64;
        if counts {
            self.rate.push(done.rate);
            self.micros.push(used * 1e6 / done.requests);
            self.share.push(100.0 * used * done.rate / done.requests);
            self.slow.push(done.slow_micros);
            self.asked.push(100.0 * calls / done.requests);
            self.errors += done.errors;
        }
        Ok(())
    }
}

/// A table of all that was measured, beside the first server.
pub(super) fn table(id: &str, title: &str, fleet: &Fleet, all: &[Measured]) -> Table {
    let columns = [
        ("requests/s", 0),
        ("× the first", 2),
        ("processor time, µs a request", 1),
        ("× the first", 2),
        ("of the core, %", 0),
        ("99 %, µs", 0),
        ("asked of the handler, %", 2),
        ("errors", 0),
    ];
    let mut table = Table::new(id, title, &columns).plot(Plot::Bars(0));
    let Some(first) = all.first() else { return table };
    for (contender, it) in fleet.contenders.iter().zip(all) {
        let name = &contender.member.what;
        if let Some(why) = &it.failure {
            table.missing(name, why);
            continue;
        }
        #[expect(clippy::cast_precision_loss, reason = "there are few")]
        let errors = it.errors as f64;
        let cells = [
            Figure::median(&it.rate),
            Figure::of(it.rate.relative_to(&first.rate).median()),
            Figure::median(&it.micros),
            Figure::of(it.micros.relative_to(&first.micros).median()),
            Figure::of(it.share.median()),
            Figure::of(it.slow.median()),
            Figure::of(it.asked.median()),
            Figure::of(errors),
        ];
        table.row(name, cells);
    }
    missing(&mut table, fleet);
    table
}

/// Those that aren't there.
pub(super) fn missing(table: &mut Table, fleet: &Fleet) {
    for (name, why) in &fleet.missing {
        table.missing(name, why);
    }
}
