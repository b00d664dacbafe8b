//! Reverse proxies side by side: each has the same one core in turn, round after round, while the
//! load and the origin have the other one.
//!
//! `proxies [ROUNDS] [SECONDS] [CONNECTIONS]`; `ONLY=keep,nginx` for some of them.

mod fleet;

use std::path::Path;
use std::time::Duration;

use harness::BoxError;
use harness::member::Member;
use harness::pace::Pace;
use harness::report::{Figure, Plot, Report, Table};
use harness::samples::Samples;
use harness::wrk::load;

use crate::fleet::Fleet;

/// What was measured of one proxy.
#[derive(Default)]
struct Figures {
    rate: Samples,
    micros: Samples,
    slow: Samples,
    share: Samples,
    errors: u64,
}

fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u32>());
    let mut next = |default| arguments.next().unwrap_or(Ok(default));
    let (rounds, seconds, connections) = (next(9)?, next(3)?, next(64)?);
    let fleet = Fleet::launch()?;
    let duration = Duration::from_secs(seconds.into());
    // Connections are made, and caches are warm.
    for member in &fleet.members {
        load(&url(member), &[], Duration::from_secs(1), connections)?;
    }
    let mut figures: Vec<Figures> = fleet.members.iter().map(|_| Figures::default()).collect();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for (member, figures) in fleet.members.iter().zip(&mut figures) {
            let before = member.processor_time()?;
            let done = load(&url(member), &[], duration, connections)?;
            let used = member.processor_time()?.saturating_sub(before).as_secs_f64();
            figures.rate.push(done.rate);
            figures.micros.push(used * 1e6 / done.requests);
            figures.share.push(100.0 * used / duration.as_secs_f64());
            figures.slow.push(done.slow_micros);
            figures.errors += done.errors;
        }
    }
    let table = table(&fleet, &figures, seconds, connections).ok_or("nobody takes part")?;
    let mut report = Report::open(Path::new("results"), Pace::of_rounds(rounds));
    report.tell(&fleet.setups);
    report.add(table)?;
    Ok(())
}

fn url(member: &Member) -> String {
    format!("http://{}/some/path?and=query", member.address)
}

fn table(fleet: &Fleet, figures: &[Figures], seconds: u32, connections: u32) -> Option<Table> {
    let at = fleet.members.iter().position(|member| member.name == "nginx").unwrap_or(0);
    let (base, first) = (figures.get(at)?, fleet.members.get(at)?);
    let times = format!("× {}", first.name);
    let columns = [
        ("requests/s", 0),
        (&*times, 2),
        ("processor time, µs a request", 1),
        (&*times, 2),
        ("of the core, %", 0),
        ("99 %, µs", 0),
        ("errors", 0),
    ];
    let mut table = Table::new("proxies", "Reverse proxies", &columns)
        .note(format!(
            "{} rounds of {seconds} s by wrk, {connections} connections; medians (quartiles).",
            base.rate.count()
        ))
        .plot(Plot::Bars(0));
    for (member, figures) in fleet.members.iter().zip(figures) {
        #[expect(clippy::cast_precision_loss, reason = "there are few")]
        let errors = figures.errors as f64;
        let cells = [
            Figure::median(&figures.rate),
            Figure::of(figures.rate.relative_to(&base.rate).median()),
            Figure::median(&figures.micros),
            Figure::of(figures.micros.relative_to(&base.micros).median()),
            Figure::of(figures.share.median()),
            Figure::of(figures.slow.median()),
            Figure::of(errors),
        ];
        table.row(&member.what, cells);
    }
    for missing in &fleet.missing {
        table.missing(missing, "it is not installed");
    }
    Some(table)
}
