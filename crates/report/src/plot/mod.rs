//! Plots as SVG that stands in a page: no script, colours by the page's style.
//!
//! Every plot has a title and a description for those who cannot see it; marks have titles that
//! browsers show. What is drawn stands in a table of the page, too.

mod axis;
mod frame;
mod heat;

pub(crate) use axis::{Axis, Scale};
pub(crate) use heat::{Cell, HeatMap};

use crate::page::escape;
use frame::{BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, wrap};
use std::fmt::Write as _;

/// About the width of a letter and the height of a line, on narrow screens.
const LETTER: f64 = 9.5;
const LINE: f64 = 17.0;

/// The style of plots.
pub(crate) const STYLE: &str = include_str!("plot.css");

/// Classes of series, each with a colour and a mark of its own.
pub(crate) const SERIES: [&str; 6] = ["s0", "s1", "s2", "s3", "s4", "s5"];

/// A plot while it is drawn.
pub(crate) struct Plot {
    id: &'static str,
    title: String,
    description: String,
    x: Axis,
    y: Axis,
    marks: String,
    /// Boxes of words: left, top, right, bottom.
    words: Vec<[f64; 4]>,
}

impl Plot {
    /// An empty plot between these axes. `id` is the page's only one of this name.
    pub(crate) fn new(id: &'static str, title: &str, description: &str, x: Axis, y: Axis) -> Self {
        Self {
            id,
            title: title.to_owned(),
            description: description.to_owned(),
            x,
            y,
            marks: String::new(),
            words: Vec::new(),
        }
    }

    /// Where a value is drawn; none for what is no number, or has no logarithm.
    fn place(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        let x = LEFT + self.x.share(x)? * (WIDTH - LEFT - RIGHT);
        let y = HEIGHT - BOTTOM - self.y.share(y)? * (HEIGHT - TOP - BOTTOM);
        Some((x, y))
    }

    /// A line through points; it is broken where one is no number.
    pub(crate) fn line(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let mut path = String::new();
        let mut begun = false;
        for (x, y) in points {
            match self.place(x, y) {
                Some((x, y)) => {
                    let command = if begun { 'L' } else { 'M' };
                    let _ = write!(path, "{command}{x:.1} {y:.1}");
                    begun = true;
                }
                None => begun = false,
            }
        }
        let _ = writeln!(self.marks, r#"<path class="line {class}" d="{path}"/>"#);
    }

    /// A mark with a title.
    pub(crate) fn mark(&mut self, class: &str, (x, y): (f64, f64), title: &str) {
        let Some((x, y)) = self.place(x, y) else { return };
        let title = escape(title);
        let shape = match class {
            "s1" | "mlp" => square(x, y),
            "s2" | "head" => triangle(x, y),
            "s3" | "embedding" => diamond(x, y),
            _ => format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="4.2"/>"#),
        };
        let _ =
            writeln!(self.marks, r#"<g class="mark {class}"><title>{title}</title>{shape}</g>"#);
    }

    /// A ring around a mark, with a word beside it where no other word is.
    pub(crate) fn ring(&mut self, (x, y): (f64, f64), word: &str) {
        let Some((x, y)) = self.place(x, y) else { return };
        let _ = writeln!(self.marks, r#"<circle class="ring" cx="{x:.1}" cy="{y:.1}" r="8"/>"#);
        let length = LETTER * word.chars().count() as f64;
        let sides = [
            ("start", 11.0, -7.0),
            ("end", -11.0, 18.0),
            ("start", 11.0, 18.0),
            ("end", -11.0, -7.0),
        ];
        for (anchor, right, down) in sides {
            let (from, baseline) = (x + right, y + down);
            let left = if anchor == "end" { from - length } else { from };
            let own = [left, baseline - LINE, left + length, baseline];
            let inside =
                own[0] > LEFT && own[2] < WIDTH && own[1] > 0.0 && own[3] < HEIGHT - BOTTOM;
            let meets = |other: &[f64; 4]| {
                own[0] < other[2] && other[0] < own[2] && own[1] < other[3] && other[1] < own[3]
            };
            if !inside || self.words.iter().any(meets) {
                continue;
            }
            self.words.push(own);
            let word = escape(word);
            let _ = writeln!(
                self.marks,
                r#"<text class="word" x="{from:.1}" y="{baseline:.1}" text-anchor="{anchor}">{word}</text>"#
            );
            return;
        }
    }

    /// The drawing.
    pub(crate) fn svg(&self) -> String {
        let mut frame = String::new();
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for (value, text) in self.y.ticks(5) {
            let Some(share) = self.y.share(value) else { continue };
            let y = bottom - share * (bottom - TOP);
            let _ = writeln!(
                frame,
                r#"<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1}" y2="{y:.1}"/><text x="{:.1}" y="{:.1}" text-anchor="end">{text}</text>"#,
                LEFT - 7.0,
                y + 5.0
            );
        }
        for (value, text) in self.x.ticks(6) {
            let Some(share) = self.x.share(value) else { continue };
            let x = LEFT + share * (right - LEFT);
            let _ = writeln!(
                frame,
                r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{bottom}"/><text x="{x:.1}" y="{:.1}" text-anchor="middle">{text}</text>"#,
                bottom + 19.0
            );
        }
        let middle = f64::midpoint(LEFT, right);
        let centre = f64::midpoint(TOP, bottom);
        let _ = writeln!(
            frame,
            r#"<text class="axis-title" x="{middle:.1}" y="{:.1}" text-anchor="middle">{}</text><text class="axis-title" transform="translate(15 {centre:.1}) rotate(-90)" text-anchor="middle">{}</text>"#,
            HEIGHT - 8.0,
            escape(self.x.title()),
            escape(self.y.title())
        );
        let body = frame + &self.marks;
        wrap(self.id, &self.title, &self.description, (WIDTH, HEIGHT), &body)
    }
}

fn square(x: f64, y: f64) -> String {
    format!(r#"<rect x="{:.1}" y="{:.1}" width="7.6" height="7.6"/>"#, x - 3.8, y - 3.8)
}

fn triangle(x: f64, y: f64) -> String {
    format!(r#"<path d="M{x:.1} {:.1}l4.8 8.6h-9.6z"/>"#, y - 5.4)
}

fn diamond(x: f64, y: f64) -> String {
    format!(r#"<path d="M{x:.1} {:.1}l5.2 5.2l-5.2 5.2l-5.2-5.2z"/>"#, y - 5.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_do_not_meet() {
        let axis = || Axis::new("", Scale::Linear, [0.0, 1.0].into_iter());
        let mut plot = Plot::new("p", "", "", axis(), axis());
        (0..9).for_each(|_| plot.ring((0.5, 0.5), "6,scale"));
        let svg = plot.svg();
        assert_eq!(svg.matches("class=\"ring\"").count(), 9);
        assert_eq!(svg.matches("class=\"word\"").count(), 4, "on each side of the mark");
    }

    #[test]
    fn what_is_no_number_breaks_a_line_and_has_no_mark() {
        let x = Axis::new("x", Scale::Linear, [0.0, 1.0].into_iter());
        let y = Axis::new("y <b>", Scale::Linear, [0.0, 1.0].into_iter());
        let mut plot = Plot::new("p", "a & b", "text", x, y);
        plot.line("s0", [(0.0, 0.0), (0.5, f64::NAN), (0.6, 0.5), (1.0, 1.0)].into_iter());
        plot.mark("s1", (0.5, f64::INFINITY), "none");
        plot.mark("s1", (0.5, 0.5), "<script>");
        let svg = plot.svg();
        assert_eq!(svg.matches('M').count() - svg.matches("MB").count(), 2, "{svg}");
        assert_eq!(svg.matches("<g class=\"mark").count(), 1);
        assert!(svg.contains("&lt;script&gt;") && svg.contains("a &amp; b"));
        assert!(svg.contains("y &lt;b&gt;") && !svg.contains("NaN") && !svg.contains("inf"));
    }
}
