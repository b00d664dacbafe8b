//! What was measured, as data: tables that become Markdown, JSON and plots.

mod machine;
mod markdown;
mod plot;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::machine::Machine;
use crate::pace::Pace;
use crate::samples::Samples;

/// What a later run reads again.
const JSON: &str = "report.json";

/// What was measured on one machine: by one run, or by several, each of which brought its tables up to
/// date.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Where it was measured.
    pub machine: Machine,
    /// In the order in which they were first measured.
    pub tables: Vec<Table>,
    /// What the programs that took part were told, by name.
    pub setups: BTreeMap<String, String>,
    /// Where it is written.
    #[serde(skip)]
    folder: PathBuf,
    /// Said of each table.
    #[serde(skip)]
    taken: String,
}

/// Lines that were measured in turn, so that they can be compared with each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    /// A word for files and arguments.
    pub id: String,
    /// What is measured.
    pub title: String,
    /// How it was measured: rounds, sizes, what the figures mean.
    pub note: String,
    /// What the columns hold, with the unit.
    pub columns: Vec<Column>,
    /// One for each who took part, or couldn't.
    pub rows: Vec<Row>,
    /// When, and by what command.
    pub taken: String,
    /// What of it is drawn.
    pub plot: Option<Plot>,
}

/// A column.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Column {
    /// What it holds, with the unit.
    pub name: String,
    /// How many digits behind the point are worth reading.
    pub digits: usize,
}

/// One who took part, or couldn't.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Who.
    pub name: String,
    /// A figure for each column; nothing where there is none.
    pub cells: Vec<Option<Figure>>,
    /// Why there are none.
    pub missing: Option<String>,
}

/// A figure.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// The median of all rounds.
    pub median: f64,
    /// The quartiles, where there were rounds.
    pub quartiles: Option<[f64; 2]>,
}

/// How a table is drawn.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Plot {
    /// A bar for each row, of the column with this number.
    Bars(usize),
    /// A line for each row: the columns are points from left to right, named by what they are of.
    Lines,
    /// The same of the first so many columns, by logarithms.
    LogLines(usize),
}

impl Report {
    /// The one that lies in `folder`, if it is of this machine; else an empty one.
    pub fn open(folder: &Path, pace: Pace) -> Self {
        let machine = Machine::this();
        let text = fs::read_to_string(folder.join(JSON)).unwrap_or_default();
        let found = serde_json::from_str::<Self>(&text).ok().filter(|it| it.machine.is(&machine));
        let (tables, setups) = found.map(|it| (it.tables, it.setups)).unwrap_or_default();
        let taken = match pace {
            Pace::Full => machine::taken(),
            Pace::Quick => format!("{} A smoke run: read nothing into it.", machine::taken()),
        };
        Self { machine, tables, setups, folder: folder.to_owned(), taken }
    }

    /// Prints a table, and writes the report with it.
    ///
    /// # Errors
    ///
    /// If a file can't be written.
    pub fn add(&mut self, mut table: Table) -> io::Result<()> {
        table.taken.clone_from(&self.taken);
        println!("\n{}", table.markdown());
        match self.tables.iter_mut().find(|it| it.id == table.id) {
            Some(old) => *old = table,
            None => self.tables.push(table),
        }
        self.write()
    }

    /// Notes what programs were told.
    pub fn tell(&mut self, setups: &[(String, String)]) {
        self.setups.extend(setups.iter().cloned());
    }

    /// Writes `report.json`, `report.md` and an SVG for each table that is drawn.
    fn write(&self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        fs::write(self.folder.join(JSON), serde_json::to_string_pretty(self)?)?;
        fs::write(self.folder.join("report.md"), self.markdown())?;
        for table in &self.tables {
            if let Some(svg) = table.svg().map_err(io::Error::other)? {
                fs::write(self.folder.join(format!("{}.svg", table.id)), svg)?;
            }
        }
        Ok(())
    }
}

impl Table {
    /// An empty table.
    pub fn new(id: &str, title: &str, columns: &[(&str, usize)]) -> Self {
        let column = |&(name, digits): &(&str, usize)| Column { name: name.to_owned(), digits };
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            note: String::new(),
            taken: String::new(),
            columns: columns.iter().map(column).collect(),
            rows: Vec::new(),
            plot: None,
        }
    }

    /// How it was measured.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// How it is drawn.
    #[must_use]
    pub fn plot(mut self, plot: Plot) -> Self {
        self.plot = Some(plot);
        self
    }

    /// One who took part.
    pub fn row(&mut self, name: &str, cells: impl IntoIterator<Item = Option<Figure>>) {
        let cells = cells.into_iter().collect();
        self.rows.push(Row { name: name.to_owned(), cells, missing: None });
    }

    /// One who couldn't take part.
    pub fn missing(&mut self, name: &str, why: &(impl ToString + ?Sized)) {
        let (name, missing) = (name.to_owned(), Some(why.to_string()));
        self.rows.push(Row { name, cells: Vec::new(), missing });
    }
}

impl Figure {
    /// A figure that isn't a median; none if it is no number.
    pub fn of(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self { median: value, quartiles: None })
    }

    /// Of all rounds; none if there were none.
    pub fn median(samples: &Samples) -> Option<Self> {
        let quartiles = (samples.count() > 1).then(|| [samples.at(0.25), samples.at(0.75)]);
        Some(Self { quartiles, ..Self::of(samples.median())? })
    }
}
