//! Counts the instructions of each hot path by callgrind, and compares them with those that are written
//! down in `instructions.txt`. `scripts/instructions` builds and starts it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the output of the program")]

#[path = "instructions/baseline.rs"]
mod baseline;
#[path = "instructions/callgrind.rs"]
mod callgrind;

use std::env;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;

use tokio::runtime::Builder;
use tower_keep_benches::hot::{HotPath, paths};

use baseline::{Baseline, Verdict};

const USAGE: &str = "\
Usage: scripts/instructions [--update] [PART OF A NAME]

Counts the instructions of each hot path, or of those that have this in their names. Fails where one
takes 5 % more than benches/instructions.txt says.

  --update  writes down what was counted, in place of failing

Ends with 3 where the counts can't be compared, because another compiler, valgrind, C library or kind
of processor made those of the file.";

/// How often a path is gone before it is counted, until all that grows at first has grown.
const WARM: u32 = 1_000;

/// How often a path is gone while it is counted.
const TIMES: u32 = 2_000;

/// How often a path that takes too much is counted again.
const AGAIN: u32 = 4;

/// Counts can't be compared.
const NOT_COMPARABLE: u8 = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match *words {
        ["--go", name] => go(name).map(|()| ExitCode::SUCCESS),
        [] => check(""),
        ["--update"] => update(""),
        ["--update", part] | [part, "--update"] if !part.starts_with('-') => update(part),
        [part] if !part.starts_with('-') => check(part),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("instructions: {error}");
        ExitCode::FAILURE
    })
}

/// Goes the path of this name, as callgrind is to count it.
fn go(name: &str) -> io::Result<()> {
    let path = paths().into_iter().find(|path| path.name == name);
    let path = path.ok_or_else(|| io::Error::other(format!("there is no path {name:?}")))?;
    let runtime = Rc::new(Builder::new_current_thread().enable_time().build()?);
    let mut way = path.prepare(&runtime);
    let _entered = runtime.enter();
    way.time(WARM);
    way.count(TIMES);
    Ok(())
}

/// Those that have `part` in their names.
fn chosen(part: &str) -> io::Result<Vec<HotPath>> {
    let chosen: Vec<_> = paths().into_iter().filter(|path| path.name.contains(part)).collect();
    if chosen.is_empty() {
        return Err(io::Error::other(format!("no hot path has {part:?} in its name")));
    }
    Ok(chosen)
}

fn check(part: &str) -> io::Result<ExitCode> {
    let baseline = Baseline::read()?;
    let made_by = callgrind::made_by()?;
    let mut counts = callgrind::count(&chosen(part)?, TIMES)?;
    // Maps have other seeds in each process, and some paths go through more of one by them: so what is too
    // much is counted again, and the least of all counts.
    for _ in 0..AGAIN {
        let is_more = |name: &str, count| matches!(baseline.judge(name, count), Verdict::More);
        for (name, count) in counts.iter_mut().filter(|(name, count)| is_more(name, *count)) {
            let again = callgrind::count(&chosen(name)?, TIMES)?;
            let of_it = again.iter().find(|(other, _)| other == name).map(|(_, count)| *count);
            *count = of_it.map_or(*count, |again| again.min(*count));
        }
    }
    println!("| {:<42} | instructions | written down | change |", "hot path");
    println!("| {:-<42} | -----------: | -----------: | -----: |", "");
    let mut verdicts = Vec::new();
    for (name, count) in counts {
        let (before, change) = match baseline.count(name) {
            Some(before) => {
                (before.to_string(), format!("{:+.1} %", baseline::change(before, count)))
            }
            None => (String::new(), String::new()),
        };
        println!("| {name:<42} | {count:>12} | {before:>12} | {change:>6} |");
        verdicts.push((name, baseline.judge(name, count)));
    }
    println!("\nCounted by {made_by}.");
    if made_by != baseline.made_by {
        println!("Not comparable: those that are written down were made by {}.", baseline.made_by);
        return Ok(ExitCode::from(NOT_COMPARABLE));
    }
    let mut is_good = true;
    for (name, verdict) in verdicts {
        let says = match verdict {
            Verdict::Same => continue,
            Verdict::Less => "BETTER, and stays so by `scripts/instructions --update`",
            Verdict::More => "WORSE, by more than is let through",
            Verdict::Unknown => "UNKNOWN: `scripts/instructions --update` adds it",
        };
        println!("{name}: {says}");
        is_good &= matches!(verdict, Verdict::Less);
    }
    for name in baseline.others(&paths()) {
        println!("{name}: GONE: `scripts/instructions --update` removes it");
        is_good = false;
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn update(part: &str) -> io::Result<ExitCode> {
    let made_by = callgrind::made_by()?;
    let mut baseline = if part.is_empty() { Baseline::default() } else { Baseline::read()? };
    if !part.is_empty() && baseline.made_by != made_by {
        return Err(io::Error::other("all were made by something else: update all of them"));
    }
    baseline.made_by = made_by;
    for (name, count) in callgrind::count(&chosen(part)?, TIMES)? {
        println!("{count:>8}  {name}");
        baseline.set(name, count);
    }
    baseline.write(&paths())?;
    Ok(ExitCode::SUCCESS)
}
