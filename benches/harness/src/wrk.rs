//! The load: wrk, on the core that the servers don't have.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::BoxError;
use crate::member::OTHER_CORE;

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// How many requests were answered.
    pub requests: f64,
    /// Requests a second.
    pub rate: f64,
    /// What 99 % of the requests were quicker than, in microseconds.
    pub slow_micros: f64,
    /// What went wrong, and answers that say so.
    pub errors: u64,
}

/// As many requests as `connections` can ask one after the other, with these lines in their heads.
///
/// # Errors
///
/// If wrk can't be run, or says what isn't understood.
pub fn load(
    url: &str,
    fields: &[&str],
    duration: Duration,
    connections: u32,
) -> Result<Done, BoxError> {
    let fields = fields.iter().flat_map(|field| ["-H", field]);
    run(&fields.chain([url]).collect::<Vec<_>>(), duration, connections)
}

/// The same for paths with the numbers from 0 to `keys` in the place of the one at the end of `url`.
///
/// # Errors
///
/// If wrk can't be run, or says what isn't understood.
pub fn load_keys(
    url: &str,
    duration: Duration,
    connections: u32,
    keys: u64,
) -> Result<Done, BoxError> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/keys.lua");
    let script = script.to_str().ok_or("a path that isn't UTF-8")?;
    run(&["-s", script, url, "--", &keys.to_string()], duration, connections)
}

fn run(arguments: &[&str], duration: Duration, connections: u32) -> Result<Done, BoxError> {
    let output = Command::new("taskset")
        .args(["-c", OTHER_CORE, "wrk", "--latency", "-t1"])
        .args([format!("-c{connections}"), format!("-d{}s", duration.as_secs().max(1))])
        .args(arguments)
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    if !output.status.success() {
        return Err(format!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    parse(&text).ok_or_else(|| format!("wrk says what isn't understood:\n{text}").into())
}

fn parse(text: &str) -> Option<Done> {
    let after = |label: &str| {
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix(label));
        line.map(str::trim)
    };
    let requests = text.lines().find(|line| line.contains(" requests in "))?;
    // "Non-2xx or 3xx responses: 3", "Socket errors: connect 0, read 0, write 0, timeout 0"
    let refused: u64 = after("Non-2xx or 3xx responses:").map_or(Some(0), |it| it.parse().ok())?;
    let broken = after("Socket errors:").unwrap_or_default().split([' ', ',']);
    let broken: u64 = broken.filter_map(|word| word.parse::<u64>().ok()).sum();
    Some(Done {
        requests: requests.split_whitespace().next()?.parse().ok()?,
        rate: after("Requests/sec:")?.parse().ok()?,
        slow_micros: micros(after("99%")?)?,
        errors: refused + broken,
    })
}

/// Of "850.00us", "1.20ms" or "1.20s".
fn micros(text: &str) -> Option<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    units.iter().find_map(|(unit, factor)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(number * factor)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says_is_understood() {
        let text = "Running 3s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n  \
                    Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency     1.53ms  \
                    243.43us   5.98ms   91.02%\n    Req/Sec    42.08k     1.94k   44.61k    \
                    86.67%\n  Latency Distribution\n     50%    1.50ms\n     75%    1.58ms\n     \
                    90%    1.70ms\n     99%    2.40ms\n  125641 requests in 3.00s, 150.98MB read\n  \
                    Socket errors: connect 0, read 1, write 0, timeout 2\n  Non-2xx or 3xx \
                    responses: 4\nRequests/sec:  41832.56\nTransfer/sec:     50.27MB\n";
        let done = parse(text).unwrap();
        assert_eq!((done.requests, done.rate, done.errors), (125_641.0, 41_832.56, 7));
        assert!((done.slow_micros - 2_400.0).abs() < 1e-9);
        assert!(parse("wrk: unable to connect").is_none());
    }
}
