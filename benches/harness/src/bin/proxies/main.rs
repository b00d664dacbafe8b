//! Reverse proxies side by side: each has the same one core in turn, round after round, while the
//! load and the origin have the other one.
//!
//! `proxies [ROUNDS] [SECONDS] [CONNECTIONS]`; `ONLY=keep,nginx` for some of them.

mod fleet;

use std::error::Error;
use std::time::Duration;

use harness::member::Member;
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

fn main() -> Result<(), Box<dyn Error>> {
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
    print_table(&fleet, &figures, seconds, connections);
    Ok(())
}

fn url(member: &Member) -> String {
    format!("http://{}/some/path?and=query", member.address)
}

fn print_table(fleet: &Fleet, figures: &[Figures], seconds: u32, connections: u32) {
    let at = fleet.members.iter().position(|member| member.name == "nginx").unwrap_or(0);
    let (Some(base), Some(first)) = (figures.get(at), fleet.members.get(at)) else { return };
    println!(
        "\n{} rounds of {seconds} s, {connections} connections; medians (quartiles).\n",
        base.rate.count()
    );
    println!(
        "| | requests/s | × {0} | processor time, µs a request | × {0} | of the core, % | 99 %, µs \
         | errors |",
        first.name
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (member, figures) in fleet.members.iter().zip(figures) {
        println!(
            "| {} | {} | {:.2} | {} | {:.2} | {:.0} | {:.0} | {} |",
            member.what,
            figures.rate.show(0),
            figures.rate.relative_to(&base.rate).median(),
            figures.micros.show(1),
            figures.micros.relative_to(&base.micros).median(),
            figures.share.median(),
            figures.slow.median(),
            figures.errors,
        );
    }
    for missing in &fleet.missing {
        println!("\n{missing} is not installed, so it is not in the table.");
    }
}
