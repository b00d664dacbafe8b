//! The one command: measures what its arguments name, prints tables, and writes the report.

use std::path::Path;

use harness::BoxError;
use harness::report::Report;
use harness::workloads::{growth, hit_ratio, in_process, typed};
use tokio::runtime::Builder;

fn main() -> Result<(), BoxError> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|it| it == name);
    let mut report = Report::new();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    if is_wanted("in-process") {
        for entries in [100, 10_000] {
            report.tables.push(in_process::hits(&runtime, entries, 1024)?);
        }
    }
    if is_wanted("typed") {
        report.tables.push(typed::hits(&runtime, 10_000)?);
    }
    if is_wanted("growth") {
        report.tables.push(growth::by_entries(&runtime)?);
        report.tables.push(growth::by_tags(&runtime)?);
    }
    if is_wanted("hit-ratio") {
        report.tables.push(hit_ratio::ratios()?);
    }
    println!("{}", report.markdown());
    report.write(Path::new("results"))?;
    Ok(())
}
