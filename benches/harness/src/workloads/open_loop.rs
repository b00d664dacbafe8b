//! Latency under load that doesn't wait for answers: at shares of what each server can do, and at rates
//! that are the same for all.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::closed_loop::{CONNECTIONS, measure, missing};
use crate::BoxError;
use crate::client::{Arrivals, Outcome, Plan, run as send};
use crate::fleet::{CACHES, Contender, Fleet};
use crate::pace::Pace;
use crate::progress;
use crate::report::{Figure, Plot, Report, Table};
use crate::samples::Samples;
use crate::site::{PATH, Site};
use crate::wrk::load;

const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(4);

/// To find out what a server can do.
const CAPACITY_ROUNDS: usize = 3;
const CAPACITY_ROUND: Duration = Duration::from_secs(2);

/// Percent of what each server can do.
const OWN: [u32; 3] = [50, 80, 95];

/// Percent of what the bare service can do.
const EQUAL: [u32; 3] = [10, 25, 50];

const QUANTILES: [(f64, &str); 5] =
    [(0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (1.0, "most")];

/// All tables.
///
/// # Errors
///
/// If the report can't be written, or no origin be started.
pub fn run(report: &mut Report, pace: Pace) -> Result<(), BoxError> {
    let fleet = Fleet::launch(&CACHES, Site::default())?;
    report.tell(&fleet.setups);
    let round = pace.duration(CAPACITY_ROUND);
    let all = measure("capacity", &fleet, pace.rounds(CAPACITY_ROUNDS), |contender| {
        load(&contender.url(1), &[], round, CONNECTIONS)
    });
    let capacities: Vec<f64> = all.iter().map(|measured| measured.rate.median()).collect();
    let bare = *capacities.first().ok_or("the bare service does not run")?;
    for percent in pace.of(&OWN) {
        let rates: Vec<f64> =
            capacities.iter().map(|it| it * f64::from(*percent) / 100.0).collect();
        let title = format!("Latency in µs, at {percent} % of what each can do");
        report.add(compare(
            &format!("open-own-{percent}"),
            &title,
            &fleet,
            &rates,
            &capacities,
            pace,
        ))?;
    }
    for percent in pace.of(&EQUAL) {
        let rate = bare * f64::from(*percent) / 100.0;
        let title = format!("Latency in µs, at {rate:.0} requests a second");
        let rates = vec![rate; capacities.len()];
        let id = format!("open-equal-{percent}");
        report.add(compare(&id, &title, &fleet, &rates, &capacities, pace))?;
    }
    Ok(())
}

/// Each at its rate, in turn.
fn compare(
    id: &str,
    title: &str,
    fleet: &Fleet,
    rates: &[f64],
    capacities: &[f64],
    pace: Pace,
) -> Table {
    let (rounds, round) = (pace.rounds(ROUNDS), pace.duration(ROUND));
    let mut all: Vec<Line> = fleet.contenders.iter().map(|_| Line::default()).collect();
    let bar = progress::bar(id, rounds * all.len());
    for seed in (1..).take(rounds) {
        for ((contender, line), (rate, capacity)) in
            fleet.contenders.iter().zip(&mut all).zip(rates.iter().zip(capacities))
        {
            if line.failure.is_none() {
                line.round(contender, *rate, *capacity, seed, round);
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let mut columns: Vec<_> = QUANTILES.iter().map(|(_, name)| (*name, 0)).collect();
    columns.extend([
        ("requests/s due", 0),
        ("answered", 0),
        ("failed", 0),
        ("client late, 99 %", 0),
    ]);
    let mut table = Table::new(id, title, &columns).plot(Plot::LogLines(QUANTILES.len()));
    let mut slow = Vec::new();
    for ((contender, line), rate) in fleet.contenders.iter().zip(&all).zip(rates) {
        let name = &contender.member.what;
        if let Some(why) = &line.failure {
            table.missing(name, why);
            continue;
        }
        if line.is_clients() {
            slow.push(&**name);
        }
        let cells = line.quantiles.iter().map(Figure::median);
        let rest = [*rate, line.answered.median(), line.failed, line.late.median()];
        table.row(name, cells.chain(rest.map(Figure::of)));
    }
    missing(&mut table, fleet);
    let mut note = format!(
        "{rounds} rounds of {} s, in turn; medians (quartiles) of the rounds. Poisson arrivals by a seed \
         over {CONNECTIONS} connections; latency from when a request was due. `client late` is by how \
         much the client itself was late to see that a request was due, which is part of the latency.",
        round.as_secs()
    );
    if !slow.is_empty() {
        note.push_str(" **The client could not keep up** with: ");
        note.push_str(&slow.join(", "));
        note.push('.');
    }
    table.note(note)
}

/// What was measured of one of them.
#[derive(Default)]
struct Line {
    quantiles: [Samples; QUANTILES.len()],
    answered: Samples,
    late: Samples,
    failed: f64,
    failure: Option<String>,
}

impl Line {
    fn round(
        &mut self,
        contender: &Contender,
        rate: f64,
        capacity: f64,
        seed: u64,
        duration: Duration,
    ) {
        if rate.is_nan() || rate >= capacity {
            self.failure = Some(format!("it can do {capacity:.0} requests a second"));
            return;
        }
        let plan = Plan {
            address: contender.member.address.clone(),
            paths: vec![format!("{PATH}1")],
            fields: Vec::new(),
            connections: CONNECTIONS as usize,
            arrivals: Arrivals::Open { rate, seed },
            duration,
        };
        match send(&plan) {
            Ok(outcome) => self.push(&outcome),
            Err(error) => self.failure = Some(error.to_string()),
        }
    }

    fn push(&mut self, outcome: &Outcome) {
        for ((quantile, _), samples) in QUANTILES.iter().zip(&mut self.quantiles) {
            samples.push(micros(&outcome.latency, *quantile));
        }
        self.answered.push(outcome.rate);
        self.late.push(micros(&outcome.late, 0.99));
        #[expect(clippy::cast_precision_loss, reason = "there are few")]
        let failed = outcome.failed as f64;
        self.failed += failed;
    }

    /// Whether more than a quarter of what is slow is the client's own doing.
    fn is_clients(&self) -> bool {
        self.late.median() > self.quantiles[2].median() / 4.0
    }
}

/// Of a histogram of nanoseconds.
pub(super) fn micros(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^52")]
    let nanos = histogram.value_at_quantile(quantile) as f64;
    nanos / 1e3
}
