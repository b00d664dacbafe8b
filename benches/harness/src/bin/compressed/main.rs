//! What it costs to send a page of 100 KiB compressed, beside tower-http and nginx: over sockets, each
//! server on the same one core in turn, round after round, while wrk has the other one; and within the
//! process, where the length of what is sent doesn't count.
//!
//! `compressed [ROUNDS] [SECONDS] [CONNECTIONS]`

mod servers;
mod within;

use std::error::Error;
use std::time::Duration;

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

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u32>());
    let mut next = |default| arguments.next().unwrap_or(Ok(default));
    let (rounds, seconds, connections) = (next(5)?, next(1)?, next(64)?);
    within::print_table().map_err(|error| -> Box<dyn Error> { error })?;
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
    print_table(&servers, &figures, seconds, connections)
}

fn print_table(
    servers: &Servers,
    figures: &[Figures],
    seconds: u32,
    connections: u32,
) -> Result<(), Box<dyn Error>> {
    let base = servers.ways.iter().position(|way| way.is_base).and_then(|at| figures.get(at));
    let base = base.ok_or("nothing to compare with")?;
    println!(
        "\n{} rounds of {seconds} s, {connections} connections; medians (quartiles).\n",
        base.rate.count()
    );
    println!(
        "| over sockets | bytes sent | requests/s | × | processor time, µs a request | × | of the \
         core, % | errors |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (way, figures) in servers.ways.iter().zip(figures) {
        println!(
            "| {} | {} | {} | {:.3} | {} | {:.2} | {:.0} | {} |",
            way.what,
            servers.ask(way)?.len,
            figures.rate.show(0),
            figures.rate.relative_to(&base.rate).median(),
            figures.micros.show(1),
            figures.micros.relative_to(&base.micros).median(),
            figures.share.median(),
            figures.errors,
        );
    }
    if let Some(missing) = servers.missing {
        println!("\n{missing} is not installed, so it is not in the table.");
    }
    Ok(())
}
