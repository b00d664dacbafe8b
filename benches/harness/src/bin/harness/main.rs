//! Measures caches within the process: what its arguments name of `in-process`, `typed`, `growth`,
//! `hit-ratio`, `trace` and `storm-typed`, or all of it. Prints tables, and writes them into the report.
//! `--quick` only shows that everything runs.

use harness::BoxError;
use harness::pace::Pace;
use harness::report::Report;
use harness::workloads::{self, growth, hit_ratio, in_process, storm_typed, trace, typed};
use tokio::runtime::{Builder, Runtime};

type Workload = fn(&mut Report, &Runtime, Pace) -> Result<(), BoxError>;

const ALL: [(&str, Workload); 6] = [
    ("in-process", in_process::run),
    ("typed", typed::run),
    ("growth", growth::run),
    ("hit-ratio", |report, _, pace| hit_ratio::run(report, pace)),
    ("trace", |report, _, pace| trace::run(report, pace)),
    ("storm-typed", storm_typed::run),
];

fn main() -> Result<(), BoxError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    workloads::run(&ALL, |workload, report, pace| workload(report, &runtime, pace))
}
