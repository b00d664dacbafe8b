//! The counts that are written down, and what others are beside them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::{fs, io};

use tower_keep_benches::hot::HotPath;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt");

/// How much more or less counts as the same, in percent.
const TOLERANCE: f64 = 5.0;

const MADE_BY: &str = "# Made by ";

/// What a count is beside the one that is written down.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    Same,
    Less,
    More,
    /// None is written down.
    Unknown,
}

/// The counts that are written down.
#[derive(Debug, Default)]
pub(crate) struct Baseline {
    /// All that has a say in the counts besides the code.
    pub(crate) made_by: String,
    counts: BTreeMap<String, u64>,
}

impl Baseline {
    pub(crate) fn read() -> io::Result<Self> {
        let text = fs::read_to_string(FILE)
            .map_err(|error| io::Error::new(error.kind(), format!("{FILE}: {error}")))?;
        let mut baseline = Self::default();
        for line in text.lines().map(str::trim) {
            if let Some(made_by) = line.strip_prefix(MADE_BY) {
                made_by.trim_end_matches('.').clone_into(&mut baseline.made_by);
            } else if !line.is_empty() && !line.starts_with('#') {
                let parsed = line
                    .split_once("  ")
                    .and_then(|(count, name)| Some((count.parse().ok()?, name)));
                let (count, name) = parsed.ok_or_else(|| {
                    io::Error::other(format!(
                        "{FILE}: neither a count nor two spaces and a name: {line:?}"
                    ))
                })?;
                baseline.set(name, count);
            }
        }
        Ok(baseline)
    }

    /// In the order of these.
    pub(crate) fn write(&self, paths: &[HotPath]) -> io::Result<()> {
        let mut text = format!(
            "# Instructions of one operation on each hot path, as `scripts/instructions --update` counted them.\n\
             {MADE_BY}{}.\n\n",
            self.made_by
        );
        for path in paths {
            if let Some(count) = self.count(path.name) {
                writeln!(text, "{count:>8}  {}", path.name).map_err(io::Error::other)?;
            }
        }
        fs::write(FILE, text)
    }

    pub(crate) fn count(&self, name: &str) -> Option<u64> {
        self.counts.get(name).copied()
    }

    pub(crate) fn set(&mut self, name: &str, count: u64) {
        self.counts.insert(name.to_owned(), count);
    }

    pub(crate) fn judge(&self, name: &str, count: u64) -> Verdict {
        match self.count(name).map(|before| change(before, count)) {
            None => Verdict::Unknown,
            Some(more) if more > TOLERANCE => Verdict::More,
            Some(more) if more < -TOLERANCE => Verdict::Less,
            Some(_) => Verdict::Same,
        }
    }

    /// The names that none of these paths has.
    pub(crate) fn others<'a>(&'a self, paths: &'a [HotPath]) -> impl Iterator<Item = &'a str> {
        let names = self.counts.keys().map(String::as_str);
        names.filter(|name| paths.iter().all(|path| path.name != *name))
    }
}

/// How much more it is than before, in percent.
#[expect(clippy::cast_precision_loss, reason = "counts of one operation are small")]
pub(crate) fn change(before: u64, now: u64) -> f64 {
    (now as f64 / before as f64 - 1.0) * 100.0
}
