//! How far a measurement is, on a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar for `rounds` rounds of `what`.
pub fn bar(what: &str, rounds: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:32} [{bar:40}] {pos}/{len}, {eta} left");
    let bar = ProgressBar::new(rounds as u64).with_message(what.to_owned());
    style.map_or(bar.clone(), |style| bar.with_style(style))
}
