//! Hits while tags are invalidated, some of which are those of what is asked for.

use std::process::Command;
use std::time::Duration;

use super::closed_loop::{CONNECTIONS, Measured};
use crate::BoxError;
use crate::fleet::{Contender, Control, Fleet, Stormed};
use crate::member::{Member, OTHER_CORE, free_address};
use crate::pace::Pace;
use crate::progress;
use crate::report::{Figure, Report, Table};
use crate::samples::Samples;
use crate::site::Site;
use crate::wrk::load_keys;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);

/// What is asked for, and what is invalidated, in turn: each has a tag of its own, and one that all have.
const KEYS: u64 = 10_000;

/// Tags a second; the first is what the others are compared with.
const RATES: [u32; 4] = [0, 1, 100, 10_000];

/// How often all is asked for at most, before each round, so that it is stored: a second longer each time.
const REFILLS: u64 = 5;

/// Who can't take part, and why.
const ABSENT: [(&str, &str); 6] = [
    ("axum-response-cache", "it has no tags: it drops what a request names"),
    ("hitbox", "it has no tags"),
    ("http-cache-tower-server", "it has no tags"),
    ("nginx", "it has no tags, and drops nothing by request in its free edition"),
    ("HAProxy", "it has no tags, and drops nothing by request"),
    (
        "Varnish",
        "its bans are expressions that are tried on each object, by its own console: not driven here",
    ),
];

/// The table.
///
/// # Errors
///
/// If the report can't be written, or a server not be started.
pub fn run(report: &mut Report, pace: Pace) -> Result<(), BoxError> {
    let site = Site { is_tagged: true, ..Site::default() };
    let mut fleet = Fleet::launch(&["keep"], site)?;
    let redis = redis(OTHER_CORE);
    match &redis {
        Ok(redis) => {
            let url = format!("redis=redis://{}", redis.address);
            fleet.add("keep", "the same, with Redis as a second tier", &url)?;
        }
        Err(error) => {
            let what = "tower-keep with Redis as a second tier".to_owned();
            fleet.missing.push((what, error.to_string()));
        }
    }
    let rounds = pace.rounds(ROUNDS);
    let rates = if pace == Pace::Quick { &RATES[2..] } else { &RATES };
    let mut lines: Vec<Line<'_>> = fleet
        .contenders
        .iter()
        .flat_map(|contender| rates.iter().map(move |rate| Line::new(contender, *rate)))
        .collect();
    let warm = usize::from(rounds > 1);
    let bar = progress::bar("storm", (rounds + warm) * lines.len());
    for round in 0..rounds + warm {
        for line in &mut lines {
            line.round(pace.duration(ROUND), round >= warm)?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let mut table = table(&lines, rates.len()).note(format!(
        "{rounds} rounds of {} s, in turn; medians (quartiles). {CONNECTIONS} connections ask for {KEYS} responses \
         of 1 KiB in turn; what is invalidated is the tag of one of them, in turn as well, so that the \
         handler is asked again. All is stored before each round. Redis shares its core with the client.",
        pace.duration(ROUND).as_secs()
    ));
    for (name, why) in
        ABSENT.map(|(name, why)| (name.to_owned(), why.to_owned())).iter().chain(&fleet.missing)
    {
        table.missing(name, why);
    }
    report.add(table)?;
    Ok(())
}

struct Line<'a> {
    contender: &'a Contender,
    rate: u32,
    measured: Measured,
    done: Samples,
    median: Samples,
    slow: Samples,
}

impl<'a> Line<'a> {
    fn new(contender: &'a Contender, rate: u32) -> Self {
        let samples = Samples::default;
        let measured = Measured::default();
        Self { contender, rate, measured, done: samples(), median: samples(), slow: samples() }
    }

    fn round(&mut self, duration: Duration, counts: bool) -> Result<(), BoxError> {
        refill(self.contender)?;
        let mut storm = None;
        if self.rate > 0 {
            let mut control = Control::connect(&self.contender.control)?;
            control.storm(self.rate, KEYS)?;
            storm = Some(control);
        }
        let load = |it: &Contender| load_keys(&it.url(0), duration, CONNECTIONS, KEYS);
        self.measured.round(self.contender, &load, counts)?;
        let stormed = storm.map(|mut control| control.stop()).transpose()?;
        if let (Some(Stormed { count, median_micros, slow_micros }), true) = (stormed, counts) {
            self.done.push(count / duration.as_secs_f64());
            self.median.push(median_micros);
            self.slow.push(slow_micros);
        }
        Ok(())
    }
}

/// Asks until nothing is asked of the handler any more: the round before may have left little.
fn refill(contender: &Contender) -> Result<(), BoxError> {
    for seconds in 1..=REFILLS {
        let before = contender.calls()?;
        let time = Duration::from_secs(seconds);
        let done = load_keys(&contender.url(0), time, CONNECTIONS, KEYS)?;
        #[expect(clippy::cast_precision_loss, reason = "there are few")]
        let is_all = done.requests >= KEYS as f64;
        if is_all && contender.calls()? == before {
            break;
        }
    }
    Ok(())
}

fn table(lines: &[Line<'_>], rates: usize) -> Table {
    let columns = [
        ("requests/s", 0),
        ("× without", 2),
        ("99 %, µs", 0),
        ("asked of the handler, %", 2),
        ("invalidated, a second", 0),
        ("one takes, µs", 1),
        ("99 % of them, µs", 0),
    ];
    let mut table = Table::new("storm", "Hits while tags are invalidated", &columns);
    for lines in lines.chunks(rates) {
        let Some(calm) = lines.first() else { continue };
        for line in lines {
            let name = match line.rate {
                0 => format!("{}: nothing is invalidated", line.contender.member.what),
                rate => format!("{}: {rate} a second", line.contender.member.what),
            };
            let it = &line.measured;
            let cells = [
                Figure::median(&it.rate),
                Figure::of(it.rate.relative_to(&calm.measured.rate).median()),
                Figure::median(&it.slow),
                Figure::median(&it.asked),
                Figure::median(&line.done),
                Figure::median(&line.median),
                Figure::median(&line.slow),
            ];
            table.row(&name, cells);
        }
    }
    table
}

/// A Redis that keeps nothing.
pub(super) fn redis(core: &str) -> Result<Member, BoxError> {
    let address = free_address()?;
    let (_, port) = address.rsplit_once(':').ok_or("an address has a port")?;
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no"]);
    let folder = std::env::temp_dir();
    command.arg("--dir").arg(folder);
    Member::launch("redis", "redis-server".to_owned(), address, core, &mut command)
}
