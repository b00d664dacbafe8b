//! What happens when a response expires for which many ask at once, and the handler takes its time.

use std::time::Duration;

use super::closed_loop::{CONNECTIONS, missing};
use super::open_loop::micros;
use crate::BoxError;
use crate::client::{Arrivals, Plan, run as send};
use crate::fleet::{Contender, Fleet};
use crate::pace::Pace;
use crate::progress;
use crate::report::{Figure, Plot, Report, Table};
use crate::samples::Samples;
use crate::site::{PATH, Site};

const ROUNDS: usize = 3;

/// In which the response expires as often as there are seconds.
const ROUND: Duration = Duration::from_secs(5);

const DELAY: Duration = Duration::from_millis(50);

const CONTENDERS: [&str; 8] =
    ["router", "keep", "response-cache", "hitbox", "http-cache", "nginx", "varnish", "haproxy"];

/// A table for responses that say nothing but how long they are fresh, and one for those that may be
/// used while they are fetched again.
///
/// # Errors
///
/// If the report can't be written, or no origin be started.
pub fn run(report: &mut Report, pace: Pace) -> Result<(), BoxError> {
    let fresh = Site { delay: DELAY, max_age: 1, ..Site::default() };
    report.add(expire("stampede", "`max-age=1`", fresh, pace)?)?;
    let stale = Site { stale: 10, ..fresh };
    let freshness = "`max-age=1, stale-while-revalidate=10`";
    report.add(expire("stampede-stale", freshness, stale, pace)?)?;
    Ok(())
}

#[derive(Default)]
struct Line {
    calls: Samples,
    rate: Samples,
    usual: Samples,
    slow: Samples,
    most: Samples,
    failed: f64,
    failure: Option<String>,
}

fn expire(id: &str, freshness: &str, site: Site, pace: Pace) -> Result<Table, BoxError> {
    let fleet = Fleet::launch(&CONTENDERS, site)?;
    let rounds = pace.rounds(ROUNDS);
    // Each round has an expiry in it, even if it is a quick one.
    let round = pace.duration(ROUND).max(Duration::from_millis(1_500));
    let mut all: Vec<Line> = fleet.contenders.iter().map(|_| Line::default()).collect();
    let bar = progress::bar(id, rounds * all.len());
    for _ in 0..rounds {
        for (contender, line) in fleet.contenders.iter().zip(&mut all) {
            if line.failure.is_none() {
                line.failure = line.round(contender, round).err().map(|error| error.to_string());
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let title = format!("A hot response of {freshness} expires");
    let columns = [
        ("handler called, a second", 1),
        ("requests/s", 0),
        ("50 %, ms", 1),
        ("99 %, ms", 1),
        ("most, ms", 1),
        ("failed", 0),
    ];
    let note = format!(
        "{rounds} rounds of {:.1} s, in turn; medians (quartiles). {CONNECTIONS} connections ask for the same, \
         one request after the other; the handler takes {} ms. The response is stored when it begins.",
        round.as_secs_f64(),
        DELAY.as_millis()
    );
    let mut table = Table::new(id, &title, &columns).note(note).plot(Plot::Bars(0));
    for (contender, line) in fleet.contenders.iter().zip(&all) {
        let name = &contender.member.what;
        if let Some(why) = &line.failure {
            table.missing(name, why);
            continue;
        }
        let samples = [&line.calls, &line.rate, &line.usual, &line.slow, &line.most];
        let cells = samples.map(Figure::median);
        table.row(name, cells.into_iter().chain([Figure::of(line.failed)]));
    }
    missing(&mut table, &fleet);
    Ok(table)
}

impl Line {
    #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^52")]
    fn round(&mut self, contender: &Contender, duration: Duration) -> Result<(), BoxError> {
        let plan = |duration| Plan {
            address: contender.member.address.clone(),
            paths: vec![format!("{PATH}1")],
            fields: Vec::new(),
            connections: CONNECTIONS as usize,
            arrivals: Arrivals::Closed,
            duration,
        };
        // Stored, or soon to expire.
        send(&Plan { connections: 1, ..plan(DELAY) })?;
        let before = contender.calls()?;
        let outcome = send(&plan(duration))?;
        let calls = (contender.calls()? - before) as f64;
        self.calls.push(calls / duration.as_secs_f64());
        self.rate.push(outcome.rate);
        self.usual.push(micros(&outcome.latency, 0.5) / 1e3);
        self.slow.push(micros(&outcome.latency, 0.99) / 1e3);
        self.most.push(micros(&outcome.latency, 1.0) / 1e3);
        self.failed += outcome.failed as f64;
        Ok(())
    }
}
