//! Tables as Markdown.

use std::fmt::Write;

use super::{Figure, Report, Table};

impl Report {
    /// The whole report.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}\n", self.machine);
        for table in &self.tables {
            let _ = write!(text, "\n{}", table.markdown());
        }
        if !self.setups.is_empty() {
            text.push_str("\n## What programs were told\n");
        }
        for (name, setup) in &self.setups {
            let _ = write!(text, "\n{name}:\n\n```\n{}\n```\n", setup.trim_end());
        }
        text
    }
}

impl Table {
    /// Its title, the table, and how it was measured.
    pub fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n|", self.title);
        let columns = std::iter::once("").chain(self.columns.iter().map(|it| &*it.name));
        for name in columns {
            let _ = write!(text, " {name} |");
        }
        let _ = write!(text, "\n| --- |{}\n", " ---: |".repeat(self.columns.len()));
        for row in self.rows.iter().filter(|row| row.missing.is_none()) {
            let _ = write!(text, "| {} |", row.name);
            for (cell, column) in row.cells.iter().zip(&self.columns) {
                let cell = cell.map(|figure| figure.show(column.digits)).unwrap_or_default();
                let _ = write!(text, " {cell} |");
            }
            text.push('\n');
        }
        let said = [&*self.note, &*self.taken].join(" ");
        if !said.trim().is_empty() {
            let _ = write!(text, "\n{}\n", said.trim());
        }
        for row in &self.rows {
            if let Some(why) = &row.missing {
                let _ = write!(text, "\nNot in the table: {}, because {why}.\n", row.name);
            }
        }
        text
    }
}

impl Figure {
    fn show(self, digits: usize) -> String {
        let Self { median, quartiles } = self;
        match quartiles {
            Some([low, high]) => format!("{median:.digits$} ({low:.digits$}–{high:.digits$})"),
            None => format!("{median:.digits$}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_could_not_take_part_is_named() {
        let mut table = Table::new("a", "A title", &[("ns", 1)]).note("How.");
        table.row("one", [Some(Figure { median: 2.04, quartiles: Some([1.0, 3.0]) })]);
        table.row("two", [None]);
        table.missing("three", "it is not installed");
        let text = "## A title\n\n|  | ns |\n| --- | ---: |\n| one | 2.0 (1.0–3.0) |\n| two |  |\n\n\
                    How.\n\nNot in the table: three, because it is not installed.\n";
        assert_eq!(table.markdown(), text);
    }
}
