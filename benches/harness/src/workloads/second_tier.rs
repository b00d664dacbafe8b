//! Hits in the second tier, beside redis-benchmark, which does nothing with what it gets.

use std::process::Command;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tower_keep::store::{Redis, Store, Ttl, Typed};

use super::storm::redis;
use crate::BoxError;
use crate::member::{CORE, Member, OTHER_CORE};
use crate::pace::Pace;
use crate::progress;
use crate::report::{Figure, Plot, Report, Table};
use crate::samples::Samples;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);

const VALUES: u64 = 1_000;
const SIZE: usize = 1024;

const IN_FLIGHT: [(u64, &str); 3] = [(1, "1"), (64, "64"), (1_024, "1,024")];

/// The table.
///
/// # Errors
///
/// If the report can't be written, or Redis not be asked.
pub fn run(report: &mut Report, pace: Pace) -> Result<(), BoxError> {
    let columns = IN_FLIGHT.map(|(_, name)| (name, 2));
    let title =
        "Values of 1 KiB from the second tier, in thousands a second, by how many are in flight";
    let mut table = Table::new("second-tier", title, &columns).plot(Plot::LogLines(columns.len()));
    let names = ["tower-keep `get`, one connection", "redis-benchmark, the same by its pipeline"];
    let server = match redis(CORE) {
        Ok(server) => server,
        Err(error) => {
            for name in names {
                table.missing(name, &error);
            }
            return Ok(report.add(table)?);
        }
    };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let values = runtime.block_on(fill(&server))?;
    let (rounds, round) = (pace.rounds(ROUNDS), pace.duration(ROUND));
    let mut all = [const { [const { Samples::new() }; IN_FLIGHT.len()] }; 2];
    let bar = progress::bar("second-tier", rounds * IN_FLIGHT.len());
    let (mut failure, mut lost) = (None, 0);
    for _ in 0..rounds {
        for (at, (in_flight, _)) in IN_FLIGHT.into_iter().enumerate() {
            let (rate, not_found) = runtime.block_on(get(&values, in_flight, round))?;
            all[0][at].push(rate / 1e3);
            lost += not_found;
            match benchmark(&server, in_flight, round) {
                Ok(rate) => all[1][at].push(rate / 1e3),
                Err(error) => failure = Some(error),
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let [ours, theirs] = &all;
    table.row(names[0], ours.iter().map(Figure::median));
    if let Some(error) = failure {
        table.missing(names[1], &error);
    } else {
        table.row(names[1], theirs.iter().map(Figure::median));
        let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours.relative_to(theirs));
        table.row("the first as a multiple of the second", ratios.map(|it| Figure::median(&it)));
    }
    report.add(table.note(format!(
        "{rounds} rounds of about {} s, in turn; medians (quartiles). Redis has one core, those who ask have the other. \
         tower-keep has no first tier here, and one thread; {lost} of its lookups, which don't count, found nothing, as \
         they do while Redis is too slow to answer.",
        round.as_secs()
    )))?;
    Ok(())
}

async fn fill(server: &Member) -> Result<Typed<u64, String>, BoxError> {
    let redis = Redis::builder(&format!("redis://{}", server.address));
    let redis = redis.deadline(Duration::from_secs(10)).connect().await?;
    let store = Store::builder().l2(redis).build()?;
    while !store.is_synced() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let values = store.typed("value");
    for id in 0..VALUES {
        values.set(&id, "x".repeat(SIZE), Ttl::secs(3600)).await?;
    }
    Ok(values)
}

/// How many are got in a second, so many at once; and how many lookups found nothing.
async fn get(
    values: &Typed<u64, String>,
    in_flight: u64,
    duration: Duration,
) -> Result<(f64, u32), BoxError> {
    let start = Instant::now();
    let mut askers = JoinSet::new();
    for asker in 0..in_flight {
        let values = values.clone();
        askers.spawn(async move {
            let (mut got, mut lost) = (0_u32, 0_u32);
            for step in 0.. {
                if start.elapsed() >= duration {
                    break;
                }
                let value = values.get(&((asker * 7919 + step) % VALUES)).await;
                if value.is_some_and(|value| value.len() == SIZE) {
                    got += 1;
                } else {
                    lost += 1;
                    // It may not have waited for anything.
                    tokio::task::yield_now().await;
                }
            }
            (got, lost)
        });
    }
    let (mut got, mut lost) = (0.0, 0);
    while let Some(asker) = askers.join_next().await {
        let counts = asker?;
        got += f64::from(counts.0);
        lost += counts.1;
    }
    Ok((got / start.elapsed().as_secs_f64(), lost))
}

/// The same of redis-benchmark, which asks with GET for a key of that size.
fn benchmark(server: &Member, in_flight: u64, duration: Duration) -> Result<f64, BoxError> {
    let (_, port) = server.address.rsplit_once(':').ok_or("an address has a port")?;
    // About as many as it gets in that time.
    let rate = if in_flight == 1 { 15_000 } else { 300_000 };
    let [size, pipeline, count] =
        [SIZE as u64, in_flight, rate * duration.as_secs().max(1)].map(|it| it.to_string());
    let output = Command::new("taskset")
        .args([
            "-c",
            OTHER_CORE,
            "redis-benchmark",
            "-p",
            port,
            "--csv",
            "-t",
            "set,get",
            "-c",
            "1",
        ])
        .args(["-d", &size, "-P", &pipeline, "-n", &count])
        .output()?;
    let csv = String::from_utf8(output.stdout)?;
    let line = csv.lines().find(|line| line.starts_with("\"GET\""));
    let rate =
        line.and_then(|line| line.split(',').nth(1)).ok_or("redis-benchmark says nothing")?;
    Ok(rate.trim_matches('"').parse()?)
}
