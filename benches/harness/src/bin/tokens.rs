//! What it costs to let a request through by its token: each way in turn, round after round, and the
//! medians in tables. `tokens ROUNDS`; or `tokens ROUNDS ALGORITHM`.

use std::error::Error;
use std::path::Path;

use harness::pace::Pace;
use harness::report::{Figure, Plot, Report, Table};
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
    let pace = if rounds < ROUNDS / 10 { Pace::Quick } else { Pace::Full };
    let mut report = Report::open(Path::new("results"), pace);
    for table in tables(&comparisons, &results, rounds).ok_or("there is no such algorithm")? {
        report.add(table)?;
    }
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

/// What each way takes, and that as a multiple of what the second does.
fn tables(
    comparisons: &[Comparison],
    results: &[Vec<Samples>],
    rounds: usize,
) -> Option<[Table; 2]> {
    let first = comparisons.first()?;
    let of = |it: &Comparison| format!("{} ({} bytes)", it.algorithm, it.length());
    let lengths: Vec<_> = comparisons.iter().map(of).collect();
    let columns: Vec<_> = lengths.iter().map(|it| (&**it, 0)).collect();
    let note = format!("{rounds} rounds in turn; medians (quartiles).");
    let title = "ns to let a request through by its token, more than the service alone takes";
    let mut nanos = Table::new("tokens", title, &columns).note(&*note).plot(Plot::Lines);
    let columns: Vec<_> = comparisons.iter().map(|it| (it.algorithm, 3)).collect();
    let title = "The same, as a multiple of `jsonwebtoken`";
    let mut times = Table::new("tokens-relative", title, &columns).note(note);
    for (at, way) in first.ways.iter().enumerate() {
        // Beside what the service took in the same round.
        let more = |samples: &Vec<Samples>, at: usize| samples[at].minus(&samples[0]);
        if at == 0 {
            nanos.row(way.name, results.iter().map(|it| Figure::median(&it[0])));
            continue;
        }
        nanos.row(way.name, results.iter().map(|it| Figure::median(&more(it, at))));
        let relative = |it| Figure::of(more(it, at).relative_to(&more(it, 1)).median());
        times.row(way.name, results.iter().map(relative));
    }
    Some([nanos, times])
}
