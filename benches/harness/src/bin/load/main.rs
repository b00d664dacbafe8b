//! Measures servers under load, each on the same one core in turn: what its arguments name of
//! `loopback`, `open-loop`, `pipeline`, `stampede`, `storm` and `second-tier`, or all of it. Prints
//! tables, and writes them into the report. `--quick` only shows that everything runs.

use std::path::Path;

use harness::BoxError;
use harness::pace::Pace;
use harness::report::Report;
use harness::workloads::{loopback, open_loop, second_tier, stack, stampede, storm};

type Workload = fn(&mut Report, Pace) -> Result<(), BoxError>;

const ALL: [(&str, Workload); 6] = [
    ("loopback", loopback::run),
    ("open-loop", open_loop::run),
    ("pipeline", stack::run),
    ("stampede", stampede::run),
    ("storm", storm::run),
    ("second-tier", second_tier::run),
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
    let mut failed = Vec::new();
    for (name, workload) in ALL {
        if wanted.is_empty() || wanted.iter().any(|it| it == name) {
            // The others are measured all the same.
            if let Err(error) = workload(&mut report, pace) {
                eprintln!("{name}: {error}");
                failed.push(name);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", ")).into()) }
}
