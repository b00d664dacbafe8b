//! Picks in one way again and again, for profilers and for machines that have other things to do:
//! `pick WAY BACKENDS TIMES` prints how long a pick took in the quickest tenth of many short
//! stretches, and in half of them. Without arguments, it lists the ways.

use std::error::Error;

use harness::picks::ways;
use harness::samples::Samples;
use tokio::time::Instant;

/// How many picks are a stretch: so few that mostly nothing else gets the core meanwhile.
const STRETCH: u32 = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, backends, times] = &arguments[..] else {
        ways(1)?.iter().for_each(|way| println!("{}", way.name));
        return Ok(());
    };
    let (backends, times): (usize, u32) = (backends.parse()?, times.parse()?);
    let way = ways(backends)?.into_iter().find(|way| way.name == name);
    let way = way.ok_or("no such way")?;
    let mut samples = Samples::default();
    for _ in 0..times / STRETCH {
        let start = Instant::now();
        (way.alone)(STRETCH.into());
        samples.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(STRETCH));
    }
    println!("{:.1} {:.1}", samples.at(0.1), samples.at(0.5));
    Ok(())
}
