//! Measures caches within the process: what its arguments name of `in-process`, `typed`, `growth`,
//! `hit-ratio`, `trace` and `storm-typed`, or all of it. Prints tables, and writes them into the report.
//! `--quick` only shows that everything runs.

use std::path::Path;

use harness::BoxError;
use harness::pace::Pace;
use harness::report::Report;
use harness::workloads::{growth, hit_ratio, in_process, storm_typed, trace, typed};
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
    let (mut wanted, mut pace) = (Vec::new(), Pace::Full);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => pace = Pace::Quick,
            name if ALL.iter().any(|it| it.0 == name) => wanted.push(argument),
            _ => return Err(format!("there is no workload {argument}").into()),
        }
    }
    let mut report = Report::open(Path::new("results"), pace);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut failed = Vec::new();
    for (name, workload) in ALL {
        if wanted.is_empty() || wanted.iter().any(|it| it == name) {
            // The others are measured all the same.
            if let Err(error) = workload(&mut report, &runtime, pace) {
                eprintln!("{name}: {error}");
                failed.push(name);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", ")).into()) }
}
