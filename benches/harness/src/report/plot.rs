//! Tables as SVG.

use std::error::Error;

use plotters::prelude::{
    ChartBuilder, Color, IntoDrawingArea, IntoSegmentedCoord, LineSeries, Palette, Palette99,
    PathElement, Rectangle, SVGBackend, SegmentValue, Text, WHITE,
};

use super::{Plot, Table};

/// Pixels.
const WIDTH: u32 = 800;

/// Pixels beside that for the names of lines.
const LEGEND: u32 = 380;

/// Pixels a bar.
const BAR: u32 = 34;

type Drawn<T> = Result<T, Box<dyn Error + Send + Sync>>;

impl Table {
    /// The drawing, if there is one.
    ///
    /// # Errors
    ///
    /// If it can't be drawn.
    pub fn svg(&self) -> Drawn<Option<String>> {
        let mut text = String::new();
        if self.rows.iter().all(|row| row.missing.is_some()) {
            return Ok(None);
        }
        match self.plot {
            Some(Plot::Bars(column)) => self.bars(column, &mut text)?,
            Some(Plot::Lines) => self.lines(self.columns.len(), false, &mut text)?,
            Some(Plot::LogLines(columns)) => self.lines(columns, true, &mut text)?,
            None => return Ok(None),
        }
        Ok(Some(text))
    }

    fn bars(&self, column: usize, text: &mut String) -> Drawn<()> {
        // From the bottom to the top, so the first row comes last.
        let bars: Vec<(&str, f64)> = self
            .rows
            .iter()
            .rev()
            .filter_map(|row| Some((&*row.name, (*row.cells.get(column)?)?.median)))
            .collect();
        let count = u32::try_from(bars.len())?;
        let most = bars.iter().map(|bar| bar.1).fold(0.0, f64::max);
        let area = SVGBackend::with_string(text, (WIDTH, 110 + count * BAR)).into_drawing_area();
        area.fill(&WHITE)?;
        let names = |at: &SegmentValue<usize>| match at {
            SegmentValue::CenterOf(row) => bars.get(*row).map(|bar| bar.0).unwrap_or_default(),
            _ => "",
        };
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 17))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(260)
            .build_cartesian_2d(
                0.0..most * 1.05,
                (0..bars.len().saturating_sub(1).max(1)).into_segmented(),
            )?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(bars.len())
            .y_label_formatter(&|at| names(at).to_owned())
            .x_desc(self.columns.get(column).map(|it| it.name.clone()).unwrap_or_default())
            .label_style(("sans-serif", 13))
            .draw()?;
        chart.draw_series(bars.iter().enumerate().map(|(row, bar)| {
            let (from, to) = (SegmentValue::Exact(row), SegmentValue::Exact(row + 1));
            let mut bar = Rectangle::new([(0.0, from), (bar.1, to)], Palette99::pick(row).filled());
            bar.set_margin(5, 5, 0, 0);
            bar
        }))?;
        area.present()?;
        Ok(())
    }

    /// Of the first so many columns. By logarithms, the labels are those of powers of ten.
    fn lines(&self, columns: usize, is_log: bool, text: &mut String) -> Drawn<()> {
        let height = |figure: f64| if is_log { figure.max(1e-9).log10() } else { figure };
        let lines: Vec<(&str, Vec<(usize, f64)>)> = self
            .rows
            .iter()
            .filter(|row| row.missing.is_none())
            .map(|row| {
                let points = row.cells.iter().take(columns).enumerate();
                let points = points.filter_map(|(at, cell)| Some((at, height((*cell)?.median))));
                (&*row.name, points.collect())
            })
            .collect();
        let heights = || lines.iter().flat_map(|line| &line.1).map(|point| point.1);
        let most = heights().fold(0.0, f64::max);
        let least = if is_log { heights().fold(most, f64::min).floor() } else { 0.0 };
        let area = SVGBackend::with_string(text, (WIDTH + LEGEND, 480)).into_drawing_area();
        area.fill(&WHITE)?;
        let (graph, legend) = area.split_horizontally(WIDTH);
        let last = columns.saturating_sub(1).max(1);
        let mut chart = ChartBuilder::on(&graph)
            .caption(&self.title, ("sans-serif", 17))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(0..last, least..least + (most - least).max(1e-9) * 1.05)?;
        let name = |at: &usize| self.columns.get(*at).map(|it| it.name.clone()).unwrap_or_default();
        let scale = |at: &f64| if is_log { rounded(10_f64.powf(*at)) } else { format!("{at}") };
        chart
            .configure_mesh()
            .x_labels(columns)
            .x_label_formatter(&name)
            .y_label_formatter(&scale)
            .label_style(("sans-serif", 13))
            .draw()?;
        for ((number, (name, points)), top) in lines.into_iter().enumerate().zip((50..).step_by(22))
        {
            let color = Palette99::pick(number);
            chart.draw_series(LineSeries::new(points, color.stroke_width(2)).point_size(3))?;
            legend.draw(&PathElement::new([(0, top + 6), (18, top + 6)], color.stroke_width(2)))?;
            legend.draw(&Text::new(name.to_owned(), (24, top), ("sans-serif", 13)))?;
        }
        area.present()?;
        Ok(())
    }
}

/// Two digits of it, which is enough for a scale.
fn rounded(figure: f64) -> String {
    let unit = 10_f64.powf(figure.log10().floor() - 1.0);
    let digits = usize::from(unit < 1.0) + usize::from(unit < 0.1);
    format!("{:.digits$}", (figure / unit).round() * unit)
}

#[cfg(test)]
mod tests {
    use super::super::Figure;
    use super::*;

    #[test]
    fn both_kinds_are_drawn_with_their_names() {
        let mut table = Table::new("a", "A title", &[("1", 0), ("1,000", 0)]);
        table.row("one", [Figure::of(2.0), Figure::of(3.0)]);
        table.row("two", [Figure::of(20.0), None]);
        table.missing("three", "it is not installed");
        assert!(table.svg().unwrap().is_none());
        for plot in [Plot::Bars(0), Plot::Lines, Plot::LogLines(2)] {
            let svg = table.clone().plot(plot).svg().unwrap().unwrap();
            assert!(svg.starts_with("<svg") && svg.contains("A title"), "{svg}");
            assert!(svg.contains("one") && svg.contains("two") && !svg.contains("three"));
        }
    }
}
