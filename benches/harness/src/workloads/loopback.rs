//! Hits over loopback: one core for the server, the other for wrk.

use std::time::Duration;

use super::closed_loop::{CONNECTIONS, Measured, measure, missing, table};
use crate::BoxError;
use crate::fleet::{CACHES, Fleet};
use crate::pace::Pace;
use crate::report::{Figure, Plot, Report, Table};
use crate::site::Site;
use crate::wrk::{load, load_keys};

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_secs(3);

/// Of the sweeps, which have more to measure.
const SWEEP_ROUNDS: usize = 5;
const SWEEP_ROUND: Duration = Duration::from_secs(2);

const SIZES: [(usize, &str); 3] =
    [(1 << 10, "1 KiB"), (10 << 10, "10 KiB"), (100 << 10, "100 KiB")];
const KEYS: [(u64, &str); 3] = [(1, "1"), (100, "100"), (10_000, "10,000")];

/// What a hit is to reach, as a multiple of each of these.
const AIMS: [(&str, f64); 4] =
    [("router", 1.0), ("nginx", 1.4), ("varnish", 2.3), ("http-cache", 5.0)];

/// How a server is used that is to be compared with those.
const OURS: [&str; 2] = ["keep", "keep-hyper"];

const HOW: &str = "One core for the server, the other one for the load and the origin, which is asked \
                   only once for each response. Servers of this package have one thread, tokio's \
                   current-thread runtime and mimalloc; `axum::serve` where nothing else is said. \
                   Each was first seen to answer from what it had stored. Medians (quartiles).";

/// All tables.
///
/// # Errors
///
/// If the report can't be written, or no origin be started.
pub fn run(report: &mut Report, pace: Pace) -> Result<(), BoxError> {
    hits(report, pace)?;
    by_size(report, pace)?;
    by_keys(report, pace)
}

fn hits(report: &mut Report, pace: Pace) -> Result<(), BoxError> {
    let fleet = Fleet::launch(&CACHES, Site::default())?;
    report.tell(&fleet.setups);
    let (rounds, round) = (pace.rounds(ROUNDS), pace.duration(ROUND));
    let all = measure("loopback", &fleet, rounds, |contender| {
        load(&contender.url(1), &[], round, CONNECTIONS)
    });
    let title = "Hits over loopback: 1 KiB, 64 connections";
    let note = format!("{rounds} rounds of {} s by wrk. {HOW}", round.as_secs());
    report.add(table("loopback", title, &fleet, &all).note(note))?;
    report.add(aims(&fleet, &all))?;
    Ok(())
}

/// What is aimed at, beside what was reached.
fn aims(fleet: &Fleet, all: &[Measured]) -> Table {
    let columns = [("reached, ×", 2), ("aim, ×", 2)];
    let mut table = Table::new("loopback-aims", "Throughput of hits, beside the aims", &columns)
        .note("Of the run above: the median of the ratios of each round.");
    let find = |word| {
        let mut both = fleet.contenders.iter().zip(all);
        both.find(|(contender, measured)| contender.word == word && measured.rate.count() > 0)
    };
    for ours in OURS {
        for (peer, aim) in AIMS {
            let (Some((us, our)), Some((them, their))) = (find(ours), find(peer)) else {
                table.missing(
                    &format!("{ours} beside {peer}"),
                    "one of the two could not be measured",
                );
                continue;
            };
            let name = format!("{}, as a multiple of {}", us.member.what, them.member.what);
            let reached = Figure::median(&our.rate.relative_to(&their.rate));
            table.row(&name, [reached, Figure::of(aim)]);
        }
    }
    table
}

fn by_size(report: &mut Report, pace: Pace) -> Result<(), BoxError> {
    let sizes = pace.of(&SIZES);
    let columns: Vec<_> = sizes.iter().map(|(_, name)| (*name, 0)).collect();
    let mut sweep =
        Sweep::new("sizes", "Hits a second over loopback, by the size of the body", &columns);
    let (rounds, round) = (pace.rounds(SWEEP_ROUNDS), pace.duration(SWEEP_ROUND));
    for (size, _) in sizes {
        let fleet = Fleet::launch(&CACHES, Site { size: *size, ..Site::default() })?;
        let all = measure("sizes", &fleet, rounds, |contender| {
            load(&contender.url(1), &[], round, CONNECTIONS)
        });
        sweep.add(&fleet, &all);
    }
    sweep.finish(report, rounds, round)
}

fn by_keys(report: &mut Report, pace: Pace) -> Result<(), BoxError> {
    let keys = pace.of(&KEYS);
    let columns: Vec<_> = keys.iter().map(|(_, name)| (*name, 0)).collect();
    let mut sweep =
        Sweep::new("keys", "Hits a second over loopback, by how many keys are asked for", &columns);
    let (rounds, round) = (pace.rounds(SWEEP_ROUNDS), pace.duration(SWEEP_ROUND));
    let fleet = Fleet::launch(&CACHES, Site::default())?;
    for (keys, _) in keys {
        let all = measure("keys", &fleet, rounds, |contender| {
            load_keys(&contender.url(0), round, CONNECTIONS, *keys)
        });
        sweep.add(&fleet, &all);
    }
    sweep.finish(report, rounds, round)
}

/// A line for each who takes part, a point for each case.
struct Sweep {
    table: Table,
    cases: usize,
}

impl Sweep {
    fn new(id: &str, title: &str, columns: &[(&str, usize)]) -> Self {
        Self { table: Table::new(id, title, columns).plot(Plot::Lines), cases: 0 }
    }

    fn add(&mut self, fleet: &Fleet, all: &[Measured]) {
        for (contender, measured) in fleet.contenders.iter().zip(all) {
            let name = &contender.member.what;
            if !self.table.rows.iter().any(|row| row.name == *name) {
                // It may have been missing so far.
                self.table.row(name, vec![None; self.cases]);
            }
            let figure = Figure::median(&measured.rate);
            if let Some(row) = self.table.rows.iter_mut().find(|row| row.name == *name) {
                row.cells.push(figure);
            }
        }
        self.cases += 1;
        for row in &mut self.table.rows {
            row.cells.resize(self.cases, None);
        }
        if self.cases == 1 {
            missing(&mut self.table, fleet);
        }
    }

    fn finish(self, report: &mut Report, rounds: usize, round: Duration) -> Result<(), BoxError> {
        let note = format!("{rounds} rounds of {} s a case, by wrk. {HOW}", round.as_secs());
        report.add(self.table.note(note))?;
        Ok(())
    }
}
