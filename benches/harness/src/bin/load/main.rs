//! Measures servers under load, each on the same one core in turn: what its arguments name of
//! `loopback`, `open-loop`, `pipeline`, `stampede`, `storm` and `second-tier`, or all of it. Prints
//! tables, and writes them into the report. `--quick` only shows that everything runs.

use harness::BoxError;
use harness::pace::Pace;
use harness::report::Report;
use harness::workloads::{self, loopback, open_loop, second_tier, stack, stampede, storm};

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
    workloads::run(&ALL, |workload, report, pace| workload(report, pace))
}
