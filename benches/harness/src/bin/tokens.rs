//! What it costs to let a request through by its token: each way in turn, round after round, and the
//! medians in tables. `tokens ROUNDS`; or `tokens ROUNDS ALGORITHM`.

use std::error::Error;

use harness::samples::Samples;
use harness::tokens::{ALGORITHMS, Comparison, Way};
use tokio::time::Instant;

// As in the other comparisons.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many tokens there are, each sent once a round.
const TOKENS: usize = 100;

/// How many rounds there are, where nothing else is said.
const ROUNDS: usize = 300;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let rounds = arguments.next().map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let only = arguments.next();
    let algorithms =
        ALGORITHMS.into_iter().filter(|it| only.as_deref().is_none_or(|one| one == *it));
    let comparisons: Vec<Comparison> =
        algorithms.map(|it| Comparison::new(it, TOKENS)).collect::<Result<_, _>>()?;
    let mut results: Vec<Vec<Samples>> =
        comparisons.iter().map(|it| vec![Samples::default(); it.ways.len()]).collect();
    // The first rounds are for caches, branch predictors and what is made when it is first used.
    for round in 0..rounds + rounds / 10 {
        for (comparison, results) in comparisons.iter().zip(&mut results) {
            for (way, samples) in comparison.ways.iter().zip(results) {
                let nanos = time(comparison, way)?;
                if round >= rounds / 10 {
                    samples.push(nanos);
                }
            }
        }
    }
    print(&comparisons, &results);
    Ok(())
}

/// Nanoseconds a request. All are sent twice, and the second time is measured: the first brings back
/// into the processor's caches what the other ways have pushed out.
fn time(comparison: &Comparison, way: &Way) -> Result<f64, Box<dyn Error>> {
    (way.begin)()?(comparison.requests());
    let (send, requests) = ((way.begin)()?, comparison.requests());
    #[expect(clippy::cast_precision_loss, reason = "there are few")]
    let count = requests.len() as f64;
    let start = Instant::now();
    send(requests);
    Ok(start.elapsed().as_secs_f64() * 1e9 / count)
}

fn print(comparisons: &[Comparison], results: &[Vec<Samples>]) {
    let Some(first) = comparisons.first() else { return };
    let names: Vec<_> = comparisons.iter().map(|it| it.algorithm).collect();
    let lengths: Vec<_> =
        comparisons.iter().map(|it| format!("{} ({} bytes)", it.algorithm, it.length())).collect();
    let head = |title: &str, columns: &[String]| {
        println!("\n| {title} | {} |", columns.join(" | "));
        println!("| --- |{}", " ---: |".repeat(columns.len()));
    };
    let line = |name: &str, cells: Vec<String>| println!("| {name} | {} |", cells.join(" | "));

    head("ns a request: median (quartiles)", &lengths);
    for (at, way) in first.ways.iter().enumerate() {
        // Beside what the service took in the same round.
        let more = |samples: &Vec<Samples>| match at {
            0 => samples[0].show(0),
            _ => format!("+{}", samples[at].minus(&samples[0]).show(0)),
        };
        line(way.name, results.iter().map(more).collect());
    }
    head(
        "of those, as a multiple of `jsonwebtoken`",
        &names.into_iter().map(str::to_owned).collect::<Vec<_>>(),
    );
    for (at, way) in first.ways.iter().enumerate().skip(1) {
        let times = |samples: &Vec<Samples>| {
            let more = |at: usize| samples[at].minus(&samples[0]);
            format!("{:.3}", more(at).relative_to(&more(1)).median())
        };
        line(way.name, results.iter().map(times).collect());
    }
}
