//! What is measured, a file for each.

#[cfg(feature = "load")]
mod closed_loop;
#[cfg(feature = "caches")]
pub mod draws;
#[cfg(feature = "caches")]
pub mod growth;
#[cfg(feature = "caches")]
pub mod hit_ratio;
#[cfg(feature = "caches")]
pub mod in_process;
#[cfg(feature = "load")]
pub mod loopback;
#[cfg(feature = "load")]
pub mod open_loop;
#[cfg(feature = "load")]
pub mod second_tier;
#[cfg(feature = "load")]
pub mod stack;
#[cfg(feature = "load")]
pub mod stampede;
#[cfg(feature = "load")]
pub mod storm;
#[cfg(feature = "caches")]
pub mod storm_typed;
#[cfg(feature = "caches")]
pub mod trace;
#[cfg(feature = "caches")]
pub mod typed;

use std::path::Path;

use crate::BoxError;
use crate::pace::Pace;
use crate::report::Report;

/// Goes through those workloads of `all` that the program's arguments name, or through all: each `run`s, and
/// adds to the report. `--quick` only shows that everything runs.
///
/// # Errors
///
/// If there is no workload of a name; and, when the others are measured all the same, if one fails.
pub fn run<W: Copy>(
    all: &[(&'static str, W)],
    mut run: impl FnMut(W, &mut Report, Pace) -> Result<(), BoxError>,
) -> Result<(), BoxError> {
    let (mut wanted, mut pace) = (Vec::new(), Pace::Full);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => pace = Pace::Quick,
            name if all.iter().any(|it| it.0 == name) => wanted.push(argument),
            _ => return Err(format!("there is no workload {argument}").into()),
        }
    }
    let mut report = Report::open(Path::new("results"), pace);
    let mut failed = Vec::new();
    for (name, workload) in all {
        if (wanted.is_empty() || wanted.iter().any(|it| it == name))
            && let Err(error) = run(*workload, &mut report, pace)
        {
            eprintln!("{name}: {error}");
            failed.push(*name);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", ")).into()) }
}
