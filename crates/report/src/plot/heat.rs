//! Maps of cells, the darker the larger their values.

use super::frame::{LEFT, RIGHT, TOP, WIDTH, wrap};
use crate::page::escape;
use std::fmt::Write as _;

/// Height of a row.
const ROW: f64 = 24.0;
/// Room below for names and the legend.
const BELOW: f64 = 66.0;
/// The least and the most that a cell is painted.
const PALE: f64 = 0.07;

/// A cell.
pub(crate) struct Cell {
    pub(crate) column: usize,
    pub(crate) row: usize,
    pub(crate) value: f64,
    /// What browsers show of it.
    pub(crate) title: String,
}

/// A map.
pub(crate) struct HeatMap<'a> {
    /// The page's only one of this name.
    pub(crate) id: &'static str,
    pub(crate) title: &'a str,
    pub(crate) description: &'a str,
    pub(crate) rows: Vec<String>,
    /// Names of columns.
    pub(crate) columns: Vec<String>,
    pub(crate) column_title: &'a str,
    pub(crate) cells: Vec<Cell>,
    /// A value in words.
    pub(crate) name: fn(f64) -> String,
}

impl HeatMap<'_> {
    /// The drawing. Cells without a number are left empty.
    pub(crate) fn svg(&self) -> String {
        let width = (WIDTH - LEFT - RIGHT) / self.columns.len().max(1) as f64;
        let bottom = TOP + ROW * self.rows.len() as f64;
        let finite = || self.cells.iter().map(|cell| cell.value).filter(|value| value.is_finite());
        let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(0.0, f64::max));
        let mut body = String::new();
        for (at, name) in self.rows.iter().enumerate() {
            let y = TOP + ROW * (at as f64 + 0.5) + 5.0;
            let _ = writeln!(
                body,
                r#"<text x="{:.1}" y="{y:.1}" text-anchor="end">{}</text>"#,
                LEFT - 7.0,
                escape(name)
            );
        }
        // Names have room at some columns only.
        let every = (32.0 / width).ceil().max(1.0) as usize;
        for (at, name) in self.columns.iter().enumerate().step_by(every) {
            let x = LEFT + width * (at as f64 + 0.5);
            let _ = writeln!(
                body,
                r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
                bottom + 18.0,
                escape(name)
            );
        }
        for cell in self.cells.iter().filter(|cell| cell.value.is_finite()) {
            let share = if high > low { (cell.value - low) / (high - low) } else { 1.0 };
            let _ = writeln!(
                body,
                r#"<rect class="cell" x="{:.1}" y="{:.1}" width="{:.1}" height="{:.1}" fill-opacity="{:.3}"><title>{}</title></rect>"#,
                LEFT + width * cell.column as f64 + 0.5,
                TOP + ROW * cell.row as f64 + 0.5,
                (width - 1.0).max(0.5),
                ROW - 1.0,
                PALE + (1.0 - PALE) * share,
                escape(&cell.title)
            );
        }
        if low <= high {
            body += &self.legend(bottom, low, high);
        }
        wrap(self.id, self.title, self.description, (WIDTH, bottom + BELOW), &body)
    }

    fn legend(&self, bottom: f64, low: f64, high: f64) -> String {
        let mut legend = String::new();
        let (steps, step, y) = (8, 14.0, bottom + 40.0);
        let right = WIDTH - RIGHT;
        let name = |value: f64| escape(&(self.name)(value));
        let room = 62.0;
        let left = right - room - step * f64::from(steps);
        for at in 0..steps {
            let share = f64::from(at) / f64::from(steps - 1);
            let _ = write!(
                legend,
                r#"<rect class="cell" x="{:.1}" y="{y:.1}" width="{step}" height="12" fill-opacity="{:.3}"/>"#,
                left + step * f64::from(at),
                PALE + (1.0 - PALE) * share
            );
        }
        let _ = writeln!(
            legend,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{}</text><text x="{:.1}" y="{:.1}">{}</text><text class="axis-title" x="{LEFT}" y="{:.1}">{}</text>"#,
            left - 6.0,
            y + 11.0,
            name(low),
            right - room + 6.0,
            y + 11.0,
            name(high),
            y + 11.0,
            escape(self.column_title)
        );
        legend
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_painted_by_their_values() {
        let cell = |column, value| Cell { column, row: 0, value, title: "<q>".to_owned() };
        let map = HeatMap {
            id: "m",
            title: "t",
            description: "d",
            rows: vec!["q".to_owned()],
            columns: (0..4).map(|at| at.to_string()).collect(),
            column_title: "layer",
            cells: vec![cell(0, 1.0), cell(1, 3.0), cell(2, 2.0), cell(3, f64::NAN)],
            name: |value| format!("{value:.1}"),
        };
        let svg = map.svg();
        assert_eq!(svg.matches("<title>&lt;q&gt;</title>").count(), 3);
        for opacity in ["0.070", "1.000", "0.535"] {
            assert!(svg.contains(&format!("fill-opacity=\"{opacity}\"><title>")), "{opacity}");
        }
        assert!(svg.contains(">1.0<") && svg.contains(">3.0<") && !svg.contains("NaN"));
    }
}
