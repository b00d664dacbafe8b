//! What it costs to pick a backend and to give it back: each way by criterion, alone and by two
//! threads at a time, and at the end the medians of all of them in a table.

use std::collections::BTreeMap;
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use criterion::Criterion;
use harness::picks::{Run, ways};
use harness::samples::Samples;
use tokio::time::Instant;

/// How many backends there are.
const SIZES: [usize; 4] = [2, 10, 100, 1_000];

/// Below that, the clock is what is measured.
const ENOUGH: u64 = 1_000;

/// Nanoseconds a pick, by way, backends and threads.
type Results = BTreeMap<(usize, &'static str, usize, usize), Samples>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let results = Mutex::new(Results::new());
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1_500))
        .sample_size(50)
        .configure_from_args();
    for backends in SIZES {
        for (rank, way) in ways(backends)?.into_iter().enumerate() {
            for (threads, run) in [(1, &way.alone), (2, &way.shared)] {
                let mut group = criterion.benchmark_group(format!("{backends} backends"));
                group.bench_function(format!("{}/threads: {threads}", way.name), |bencher| {
                    bencher.iter_custom(|times| {
                        let took = time(run, threads, times);
                        if times >= ENOUGH {
                            let mut results =
                                results.lock().unwrap_or_else(PoisonError::into_inner);
                            let samples = results.entry((rank, way.name, backends, threads));
                            #[expect(clippy::cast_precision_loss, reason = "a mean")]
                            samples.or_default().push(took.as_secs_f64() * 1e9 / times as f64);
                        }
                        took
                    });
                });
            }
        }
    }
    criterion.final_summary();
    print_table(&results.into_inner().unwrap_or_else(PoisonError::into_inner));
    Ok(())
}

/// How long it takes for so many threads to do it so many times, each.
fn time(run: &Run, threads: usize, times: u64) -> Duration {
    if threads == 1 {
        let start = Instant::now();
        run(times);
        return start.elapsed();
    }
    let barrier = Barrier::new(threads);
    let mine = || {
        barrier.wait();
        let start = Instant::now();
        run(times);
        start.elapsed()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(mine)).collect();
        let times = threads.into_iter().filter_map(|thread| thread.join().ok());
        times.max().unwrap_or_default()
    })
}

fn print_table(results: &Results) {
    let mut names: Vec<(usize, &str)> = results.keys().map(|key| (key.0, key.1)).collect();
    names.dedup();
    println!("\nNanoseconds a pick: median (quartiles); by one thread, and by two at a time.\n");
    println!("| | {} |", SIZES.map(|size| format!("{size} | {size}, two threads")).join(" | "));
    println!("| --- |{}", " ---: |".repeat(2 * SIZES.len()));
    for (rank, name) in names {
        let cells =
            SIZES.iter().flat_map(|size| [(*size, 1), (*size, 2)]).map(|(size, threads)| {
                let samples = results.get(&(rank, name, size, threads));
                samples.map_or_else(String::new, |samples| samples.show(0))
            });
        println!("| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}
