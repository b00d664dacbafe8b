//! Comparing ways of doing something, in one run.

use crate::Way;

/// How often each way is timed, and how many operations at a time.
const ROUNDS: usize = 300;
const BATCH: u32 = 1_000;

/// What one operation costs.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Nanoseconds: the median over all rounds.
    pub nanos: f64,
    /// Nanoseconds: the lower and the upper quartile.
    pub quartiles: (f64, f64),
    /// Allocations.
    pub allocations: f64,
}

/// Measures several ways in turn, round after round, so that a machine that gets slower gets slower
/// for all of them.
pub fn compare(ways: &mut [&mut dyn Way]) -> Vec<Cost> {
    compare_in(ROUNDS, ways, |_| {})
}

/// The same, in so many rounds. Says before each which it is.
pub fn compare_in(
    rounds: usize,
    ways: &mut [&mut dyn Way],
    mut begins: impl FnMut(usize),
) -> Vec<Cost> {
    let mut nanos: Vec<Vec<f64>> = ways.iter().map(|_| Vec::with_capacity(rounds)).collect();
    for way in &mut *ways {
        // Warm: caches, branch predictors, lazily made statics.
        way.time(10 * BATCH);
    }
    for round in 0..rounds {
        begins(round);
        for (way, nanos) in ways.iter_mut().zip(&mut nanos) {
            nanos.push(way.time(BATCH).as_secs_f64() * 1e9 / f64::from(BATCH));
        }
    }
    let costs = ways.iter_mut().zip(nanos).map(|(way, mut nanos)| {
        nanos.sort_by(f64::total_cmp);
        #[expect(clippy::cast_precision_loss, reason = "counts this small are exact")]
        let allocations = way.allocations(BATCH) as f64 / f64::from(BATCH);
        let at = |share: usize| nanos.get(nanos.len() * share / 4).copied().unwrap_or(f64::NAN);
        Cost { nanos: at(2), quartiles: (at(1), at(3)), allocations }
    });
    costs.collect()
}

/// Prints the costs as a table, each beside that of the first line.
#[expect(clippy::print_stdout, reason = "this is the output of the bench")]
pub fn print_table(title: &str, names: &[&str], costs: &[Cost]) {
    println!("\n{title}\n");
    println!("| | ns (quartiles) | more ns | × | allocations | more |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    let Some(first) = costs.first() else { return };
    for (name, cost) in names.iter().zip(costs) {
        println!(
            "| {name} | {:.0} ({:.0}–{:.0}) | {:+.0} | {:.2} | {:.1} | {:+.1} |",
            cost.nanos,
            cost.quartiles.0,
            cost.quartiles.1,
            cost.nanos - first.nanos,
            cost.nanos / first.nanos,
            cost.allocations,
            cost.allocations - first.allocations,
        );
    }
    println!();
}
