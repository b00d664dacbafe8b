//! Tables as SVG.

use std::error::Error;

use plotters::prelude::{
    BLACK, ChartBuilder, Color, IntoDrawingArea, IntoSegmentedCoord, LineSeries, Palette,
    Palette99, PathElement, Rectangle, SVGBackend, SegmentValue, SeriesLabelPosition, WHITE,
};

use super::{Plot, Table};

/// Pixels.
const WIDTH: u32 = 800;

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
        match self.plot {
            Some(Plot::Bars(column)) => self.bars(column, &mut text)?,
            Some(Plot::Lines) => self.lines(&mut text)?,
            None => return Ok(None),
        }
        Ok(Some(text))
    }

    fn bars(&self, column: usize, text: &mut String) -> Drawn<()> {
        let bars: Vec<(&str, f64)> = self
            .rows
            .iter()
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
            .build_cartesian_2d(0.0..most * 1.05, (0..bars.len()).into_segmented())?;
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

    fn lines(&self, text: &mut String) -> Drawn<()> {
        let lines: Vec<(&str, Vec<(usize, f64)>)> = self
            .rows
            .iter()
            .filter(|row| row.missing.is_none())
            .map(|row| {
                let points = row.cells.iter().enumerate();
                (&*row.name, points.filter_map(|(at, cell)| Some((at, (*cell)?.median))).collect())
            })
            .collect();
        let most = lines.iter().flat_map(|line| &line.1).map(|point| point.1).fold(0.0, f64::max);
        let area = SVGBackend::with_string(text, (WIDTH, 480)).into_drawing_area();
        area.fill(&WHITE)?;
        let last = self.columns.len().saturating_sub(1).max(1);
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 17))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(0..last, 0.0..most * 1.05)?;
        let name = |at: &usize| self.columns.get(*at).map(|it| it.name.clone()).unwrap_or_default();
        chart
            .configure_mesh()
            .x_labels(self.columns.len())
            .x_label_formatter(&name)
            .label_style(("sans-serif", 13))
            .draw()?;
        for (number, (name, points)) in lines.into_iter().enumerate() {
            let color = Palette99::pick(number).mix(1.0);
            chart
                .draw_series(LineSeries::new(points, color.stroke_width(2)).point_size(3))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .label_font(("sans-serif", 13))
            .draw()?;
        area.present()?;
        Ok(())
    }
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
        for plot in [Plot::Bars(0), Plot::Lines] {
            let svg = table.clone().plot(plot).svg().unwrap().unwrap();
            assert!(svg.starts_with("<svg") && svg.contains("A title"), "{svg}");
            assert!(svg.contains("one") && svg.contains("two") && !svg.contains("three"));
        }
    }
}
