//! What it costs to send a page of 100 KiB compressed, beside tower-http and nginx: over sockets, each
//! server on the same one core in turn, round after round, while wrk has the other one; and within the
//! process, where the length of what is sent doesn't count.
//!
//! `compressed [ROUNDS] [SECONDS] [CONNECTIONS]`

mod servers;
mod within;

use std::path::Path;
use std::time::Duration;

use harness::BoxError;
use harness::pace::Pace;
use harness::report::{Figure, Plot, Report, Table};
use harness::samples::Samples;
use harness::wrk::load;

use crate::servers::Servers;

/// What was measured of one way to send the page.
#[derive(Default)]
struct Figures {
    rate: Samples,
    micros: Samples,
    share: Samples,
    errors: u64,
}

fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u32>());
    let mut next = |default| arguments.next().unwrap_or(Ok(default));
    let (rounds, seconds, connections) = (next(5)?, next(1)?, next(64)?);
    let pace = Pace::of_rounds(rounds);
    let mut report = Report::open(Path::new("results"), pace);
    report.add(within::table(pace.rounds(within::ROUNDS))?)?;
    let servers = Servers::launch()?;
    let duration = Duration::from_secs(seconds.into());
    // Connections are made, and forms as dense as they get.
    for way in &servers.ways {
        servers.warm(way, connections)?;
    }
    let mut figures: Vec<Figures> = servers.ways.iter().map(|_| Figures::default()).collect();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for (way, figures) in servers.ways.iter().zip(&mut figures) {
            let before = servers.of(way).processor_time()?;
            let done = load(&servers.url(way), &way.fields(), duration, connections)?;
            let used = servers.of(way).processor_time()?.saturating_sub(before).as_secs_f64();
            figures.rate.push(done.rate);
            figures.micros.push(used * 1e6 / done.requests);
            figures.share.push(100.0 * used / duration.as_secs_f64());
            figures.errors += done.errors;
        }
    }
    report.add(table(&servers, &figures, seconds, connections)?)?;
    Ok(())
}

fn table(
    servers: &Servers,
    figures: &[Figures],
    seconds: u32,
    connections: u32,
) -> Result<Table, BoxError> {
    let base = servers.ways.iter().position(|way| way.is_base).and_then(|at| figures.get(at));
    let base = base.ok_or("nothing to compare with")?;
    let columns = [
        ("bytes sent", 0),
        ("requests/s", 0),
        ("× a plain hit", 3),
        ("processor time, µs a request", 1),
        ("× a plain hit", 2),
        ("of the core, %", 0),
        ("errors", 0),
    ];
    let mut table = Table::new("compressed", "A page of 100 KiB sent over loopback", &columns)
        .note(format!(
            "{} rounds of {seconds} s by wrk, {connections} connections; medians (quartiles).",
            base.rate.count()
        ))
        .plot(Plot::Bars(1));
    for (way, figures) in servers.ways.iter().zip(figures) {
        #[expect(clippy::cast_precision_loss, reason = "there are few")]
        let [length, errors] = [servers.ask(way)?.len as f64, figures.errors as f64];
        let cells = [
            Figure::of(length),
            Figure::median(&figures.rate),
            Figure::of(figures.rate.relative_to(&base.rate).median()),
            Figure::median(&figures.micros),
            Figure::of(figures.micros.relative_to(&base.micros).median()),
            Figure::of(figures.share.median()),
            Figure::of(errors),
        ];
        table.row(&way.what, cells);
    }
    if let Some(missing) = servers.missing {
        table.missing(missing, "it is not installed");
    }
    Ok(table)
}
