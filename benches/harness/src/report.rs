//! What was measured, as data: tables that become Markdown, JSON and plots.

mod machine;
mod markdown;
mod plot;

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

pub use self::machine::Machine;
use crate::samples::Samples;

/// All that one run has measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where it was measured.
    pub machine: Machine,
    /// In the order in which they were measured.
    pub tables: Vec<Table>,
}

/// Lines that were measured in turn, so that they can be compared with each other.
#[derive(Clone, Debug, Serialize)]
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
    /// What of it is drawn.
    pub plot: Option<Plot>,
}

/// A column.
#[derive(Clone, Debug, Serialize)]
pub struct Column {
    /// What it holds, with the unit.
    pub name: String,
    /// How many digits behind the point are worth reading.
    pub digits: usize,
}

/// One who took part, or couldn't.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Who.
    pub name: String,
    /// A figure for each column; nothing where there is none.
    pub cells: Vec<Option<Figure>>,
    /// Why there are none.
    pub missing: Option<String>,
}

/// A figure.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figure {
    /// The median of all rounds.
    pub median: f64,
    /// The quartiles, where there were rounds.
    pub quartiles: Option<[f64; 2]>,
}

/// How a table is drawn.
#[derive(Clone, Copy, Debug, Serialize)]
pub enum Plot {
    /// A bar for each row, of the column with this number.
    Bars(usize),
    /// A line for each row: the columns are points from left to right, named by what they are of.
    Lines,
}

impl Report {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { machine: Machine::this(), tables: Vec::new() }
    }

    /// Writes `report.json`, `report.md` and an SVG for each table that is drawn.
    ///
    /// # Errors
    ///
    /// If a file can't be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("report.json"), serde_json::to_string_pretty(self)?)?;
        fs::write(folder.join("report.md"), self.markdown())?;
        for table in &self.tables {
            if let Some(svg) = table.svg().map_err(io::Error::other)? {
                fs::write(folder.join(format!("{}.svg", table.id)), svg)?;
            }
        }
        Ok(())
    }
}

impl Default for Report {
    fn default() -> Self {
        Self::new()
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
    pub fn missing(&mut self, name: &str, why: impl ToString) {
        let (name, missing) = (name.to_owned(), Some(why.to_string()));
        self.rows.push(Row { name, cells: Vec::new(), missing });
    }
}

impl Figure {
    /// A figure that isn't a median.
    pub fn of(value: f64) -> Option<Self> {
        Some(Self { median: value, quartiles: None })
    }
}

impl From<&Samples> for Figure {
    fn from(samples: &Samples) -> Self {
        let quartiles = (samples.count() > 1).then(|| [samples.at(0.25), samples.at(0.75)]);
        Self { median: samples.median(), quartiles }
    }
}
