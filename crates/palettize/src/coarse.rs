//! A first price, from a problem with fewer places to cut.

use crate::prefix::Prefix;
use crate::search::Search;

/// Pieces in which the density of values is seen.
const PIECES: usize = 96;
/// Places to cut for each cluster.
const PLACES: usize = 10;

/// Looks for prices, in room that is used again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Coarse {
    /// The end of each piece, and the cube root of its mass times its squared width.
    pieces: Vec<(usize, f64)>,
    places: Vec<u32>,
    prefix: Prefix,
    search: Search,
}

impl Coarse {
    /// A price with which about `count` clusters are the best.
    ///
    /// Of clusters as fine as the density of values asks for (Panter and Dite 1951), one more would
    /// gain twice their error divided by their number. With that, the best clusters of some places
    /// for each are found, and what one cluster more and one fewer would change there.
    pub(crate) fn price(&mut self, prefix: &Prefix, values: &[f64], count: usize) -> f64 {
        let roots = self.density(prefix, values);
        let proper = |price: f64| price.is_finite() && price > 0.0;
        let price = (roots / count as f64).powi(3) / 6.0;
        if !proper(price) {
            return f64::MIN_POSITIVE.sqrt();
        }
        if values.len() < 2 * PLACES * count {
            return price;
        }
        self.cut(roots, PLACES * count);
        self.prefix.take(prefix, &self.places);
        if self.prefix.len() <= count + 1 {
            return price;
        }
        self.search.solve(&self.prefix, price, count);
        let better = self.search.middle_price(&self.prefix);
        if proper(better) { better } else { price }
    }

    /// Fills the pieces, and gives the sum of their roots.
    fn density(&mut self, prefix: &Prefix, values: &[f64]) -> f64 {
        let pieces = values.len().min(PIECES);
        let middle = |index: usize| values[index - 1] / 2.0 + values[index] / 2.0;
        let last = values.len() - 1;
        let (mut start, mut from, mut roots) = (0, values[0], 0.0);
        self.pieces.clear();
        for piece in 1..=pieces {
            let end = values.len() * piece / pieces;
            let weight = prefix.weight(start, end);
            // Half of the gap to a neighbour belongs to the piece.
            let to = if end > last { values[last] } else { middle(end) };
            let width = prefix.scaled(to, from);
            let root = (weight * width * width).cbrt();
            roots += root;
            self.pieces.push((end, root));
            (start, from) = (end, to);
        }
        roots
    }

    /// Fills the places, about `count`, each piece with as many as its root asks for.
    fn cut(&mut self, roots: f64, count: usize) {
        self.places.clear();
        self.places.push(0);
        let mut start = 0;
        for &(end, root) in &self.pieces {
            let steps = ((root / roots * count as f64).ceil() as usize).clamp(1, end - start);
            self.places
                .extend((1..=steps).map(|step| (start + (end - start) * step / steps) as u32));
            start = end;
        }
    }
}
