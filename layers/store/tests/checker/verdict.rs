//! The checker: whether a history keeps what is promised.

use std::collections::HashMap;

use super::origin::Versions;
use super::record::{Instant, KEYS, NEVER, Record, Value};

/// What the nodes did, what the origin did, and what was done to them.
#[derive(Default)]
pub struct History {
    /// By node.
    pub nodes: Vec<Vec<Record>>,
    pub versions: Versions,
    /// From when a fault began until all nodes were in step again.
    pub faults: Vec<(Instant, Instant)>,
    /// When a failover may have lost what was acknowledged: from, until.
    pub lossy: Vec<(Instant, Instant)>,
}

/// Within what time the other nodes follow, in nanoseconds.
#[derive(Clone, Copy)]
pub struct Bounds {
    /// Those that are in touch.
    pub in_touch: u64,
    /// All.
    pub any: u64,
}

/// What came of the check.
#[derive(Debug, Default)]
pub struct Verdict {
    pub reads: u64,
    pub invalidations: u64,
    /// Reads of which the node itself, and another one in touch or not, had ruled out some versions.
    pub own: u64,
    pub in_touch: u64,
    pub any: u64,
    /// How long after an invalidation had returned everywhere another node was still seen to serve what
    /// it was about: while all was well, and otherwise.
    pub latest_in_touch: u64,
    pub latest: u64,
    pub violations: Vec<String>,
}

/// From the first instant on, nothing that was fetched before the second.
type Floor = (Instant, Instant);

/// Until when each value was being set, by key and by when that began. Something else that is invalidated
/// meanwhile may come before it.
type Sets = HashMap<(usize, Instant), Instant>;

/// For one reader and one key: what it must not serve any more.
struct Floors {
    own: Vec<Floor>,
    /// As soon as each was spread.
    others: Vec<Floor>,
    /// Once it is due on a node that may be out of touch, or have been frozen.
    due: Vec<Floor>,
}

pub fn check(history: &History, bounds: Bounds) -> Verdict {
    let mut verdict = Verdict::default();
    let sets = history.sets();
    for (node, records) in history.nodes.iter().enumerate() {
        let floors: Vec<Floors> = (0..KEYS).map(|key| history.floors(node, key, bounds)).collect();
        let trouble = history.trouble(node);
        for record in records {
            match *record {
                Record::Read { key, began, seen } => {
                    let quiet_since = quiet_since(&trouble, began);
                    let as_of = sets.get(&(key, seen.as_of)).copied().unwrap_or(seen.as_of);
                    let read = Read { node, key, began, seen, as_of, quiet_since };
                    verdict.read(&floors[key], read, bounds);
                }
                Record::Last { key, seen } => {
                    let truth = history.versions[key].last().map_or(0, |&(_, version)| version);
                    let version = seen.version;
                    if version != truth {
                        verdict.violates(format!(
                            "node {node} ends with {version} of key {key}, which is {truth}"
                        ));
                    }
                }
                Record::Invalidated { .. } => verdict.invalidations += 1,
                Record::Step { .. } | Record::Set { .. } => {}
            }
        }
    }
    verdict
}

#[derive(Clone, Copy)]
struct Read {
    node: usize,
    key: usize,
    began: Instant,
    seen: Value,
    /// When `seen` began to be fetched, or had been set.
    as_of: Instant,
    /// Since when nothing has kept the node out of touch; none while something does.
    quiet_since: Option<Instant>,
}

impl Verdict {
    fn read(&mut self, floors: &Floors, read: Read, bounds: Bounds) {
        let Read { node, key, began, seen, as_of, quiet_since } = read;
        self.reads += 1;
        let own = at(&floors.own, began);
        let any = at(&floors.due, began);
        let reached = began.saturating_sub(bounds.in_touch);
        let in_touch = match quiet_since {
            Some(since) if since <= reached => at(&floors.others, reached),
            _ => 0,
        };
        let rules = [
            ("it had invalidated that itself", own, &mut self.own),
            ("it was in touch", in_touch, &mut self.in_touch),
            ("the bound for all nodes had passed", any, &mut self.any),
        ];
        for (rule, least, count) in rules {
            *count += u64::from(least > 0);
            if as_of < least {
                let Value { version, .. } = seen;
                let text = format!(
                    "at {began}, node {node} served version {version} of key {key} as of {as_of}, \
                     when {least} was due: {rule}"
                );
                self.violations.push(text);
            }
        }
        // The first invalidation that this read should have known of.
        let first = floors.others.partition_point(|&(_, least)| least <= as_of);
        if let Some(&(spread, _)) = floors.others.get(first).filter(|(spread, _)| *spread <= began)
        {
            let late = began - spread;
            self.latest = self.latest.max(late);
            if quiet_since.is_some_and(|since| since <= spread) {
                self.latest_in_touch = self.latest_in_touch.max(late);
            }
        }
    }

    fn violates(&mut self, text: String) {
        self.violations.push(text);
    }
}

impl History {
    fn sets(&self) -> Sets {
        let records = self.nodes.iter().flatten();
        let sets = records.filter_map(|record| match *record {
            Record::Set { key, called, returned } => Some(((key, called), returned)),
            _ => None,
        });
        sets.collect()
    }

    fn floors(&self, reader: usize, key: usize, bounds: Bounds) -> Floors {
        let (mut own, mut others, mut due) = (Vec::new(), Vec::new(), Vec::new());
        for (node, records) in self.nodes.iter().enumerate() {
            for record in records {
                let Record::Invalidated { scope, called, returned, spread } = *record else {
                    continue;
                };
                if !scope.covers(key) {
                    continue;
                }
                if node == reader {
                    own.push((returned, called));
                } else if spread < NEVER {
                    let kept = self.kept_since(spread);
                    others.push((kept, called));
                    due.push((kept + bounds.any, called));
                }
            }
        }
        Floors { own: rising(own), others: rising(others), due: rising(due) }
    }

    /// Since when what was spread at `spread` is with the second tier for good.
    fn kept_since(&self, spread: Instant) -> Instant {
        let lost = self.lossy.iter().filter(|(from, until)| (*from..*until).contains(&spread));
        lost.map(|&(_, until)| until).max().unwrap_or(spread)
    }

    /// When `node` was, or may have been, out of touch; in order, without overlaps.
    fn trouble(&self, node: usize) -> Vec<(Instant, Instant)> {
        let mut spans = self.faults.clone();
        let mut out_since = Some(0);
        for record in &self.nodes[node] {
            if let Record::Step { is_in, at } = *record {
                match (is_in, out_since) {
                    (true, Some(since)) => {
                        spans.push((since, at));
                        out_since = None;
                    }
                    (false, None) => out_since = Some(at),
                    _ => {}
                }
            }
        }
        spans.extend(out_since.map(|since| (since, NEVER)));
        spans.sort_unstable();
        let mut merged: Vec<(Instant, Instant)> = Vec::new();
        for (from, until) in spans {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(until),
                _ => merged.push((from, until)),
            }
        }
        merged
    }
}

fn quiet_since(trouble: &[(Instant, Instant)], at: Instant) -> Option<Instant> {
    match trouble.partition_point(|(from, _)| *from <= at).checked_sub(1) {
        Some(last) => Some(trouble[last].1).filter(|until| *until <= at),
        None => Some(0),
    }
}

/// In the order of time, and never falling.
fn rising(mut floors: Vec<Floor>) -> Vec<Floor> {
    floors.sort_unstable();
    let mut highest = 0;
    for (_, least) in &mut floors {
        highest = highest.max(*least);
        *least = highest;
    }
    floors
}

/// What holds at an instant; 0 before the first.
fn at(floors: &[Floor], instant: Instant) -> Instant {
    let next = floors.partition_point(|(at, _)| *at <= instant);
    next.checked_sub(1).map_or(0, |last| floors[last].1)
}

#[test]
fn every_rule_of_the_checker_can_be_broken() {
    use super::record::Scope;

    let bounds = Bounds { in_touch: 10, any: 100 };
    let invalidated =
        Record::Invalidated { scope: Scope::Group(1), called: 20, returned: 30, spread: 30 };
    let step = Record::Step { is_in: true, at: 1 };
    let verdict = |reader: usize, key: usize, began: Instant, as_of: Instant, troubled: bool| {
        let mut history = History { nodes: vec![vec![step], vec![step]], ..History::default() };
        history.nodes[0].push(invalidated);
        history.nodes[1].push(Record::Set { key: 1, called: 18, returned: 22 });
        // The origin's version has nothing to do with it.
        let seen = Value { version: 1, as_of };
        history.nodes[reader].push(Record::Read { key, began, seen });
        if troubled {
            history.faults.push((5, 500));
        }
        check(&history, bounds).violations.len()
    };
    assert_eq!(verdict(0, 1, 30, 19, false), 1, "the caller's own");
    assert_eq!(verdict(0, 1, 29, 19, false), 0, "it hasn't returned");
    assert_eq!(verdict(0, 1, 30, 20, false), 0, "fetched since it was called");
    assert_eq!(verdict(0, 1, 30, 18, false), 0, "set at the same time");
    assert_eq!(verdict(0, 2, 30, 19, false), 0, "another group");
    assert_eq!(verdict(1, 1, 39, 19, false), 0, "on its way");
    assert_eq!(verdict(1, 5, 40, 19, false), 1, "in touch, and told");
    assert_eq!(verdict(1, 5, 40, 19, true), 0, "perhaps not in touch");
    assert_eq!(verdict(1, 5, 129, 19, true), 0, "within the bound");
    assert_eq!(verdict(1, 5, 130, 19, true), 1, "past it");
}
