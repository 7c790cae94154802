//! Where the elements of a weight lie in the file, and what became of their values.

/// The order of the elements in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// As transformers has them.
    Same,
    /// Of each head of so many rows, those that are rotated together lie side by side; transformers
    /// has the first of all pairs before the second ones.
    Paired(u64),
    /// Rows of heads in [`Tiles`].
    TiledRows(Tiles),
    /// Columns of heads in [`Tiles`].
    TiledColumns(Tiles),
}

/// Heads of values, of which several share a head of keys. transformers has those of one head of keys
/// side by side; the file has the first of each head of keys, then the second ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tiles {
    /// What stands before the heads of values, in its own order.
    pub(crate) before: u64,
    /// Heads of keys.
    pub(crate) key_heads: u64,
    /// Heads of values that share one.
    pub(crate) sharing: u64,
    /// Elements of a head of values.
    pub(crate) width: u64,
}

impl Tiles {
    /// All elements, with those before.
    pub(crate) fn len(self) -> Option<u64> {
        let heads = self.key_heads.checked_mul(self.sharing)?;
        heads.checked_mul(self.width)?.checked_add(self.before)
    }

    /// Where an element lies in the file.
    pub(crate) fn stored(self, index: u64) -> u64 {
        let Some(inner) = index.checked_sub(self.before) else { return index };
        let (head, within) = (inner / self.width, inner % self.width);
        let (key_head, which) = (head / self.sharing, head % self.sharing);
        self.before + (which * self.key_heads + key_head) * self.width + within
    }

    /// How many elements from this one on follow one another in the file, too.
    pub(crate) fn run(self, index: u64) -> u64 {
        match index.checked_sub(self.before) {
            None => self.before - index,
            Some(inner) => self.width - inner % self.width,
        }
    }
}

/// How a value of the file becomes that of transformers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is the same.
    None,
    /// 1 was added.
    LessOne,
    /// It is minus the exponential.
    LogOfMinus,
}

impl Change {
    pub(crate) fn of(self, value: f32) -> f32 {
        match self {
            Self::None => value,
            Self::LessOne => value - 1.0,
            Self::LogOfMinus => (-value).ln(),
        }
    }
}

impl Order {
    /// Where a row lies in the file.
    pub(crate) fn stored_row(self, row: u64) -> u64 {
        match self {
            Self::Same | Self::TiledColumns(_) => row,
            Self::TiledRows(tiles) => tiles.stored(row),
            Self::Paired(head) => {
                let within = row % head;
                row - within + within % (head / 2) * 2 + within / (head / 2)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Order, Tiles};

    #[test]
    fn rows_of_each_head_are_paired() {
        let rows: Vec<u64> = (0..12).map(|row| Order::Paired(6).stored_row(row)).collect();
        assert_eq!(rows, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
    }

    #[test]
    fn heads_that_share_one_are_apart() {
        // Two heads of keys with three heads of values each, of two elements, behind one element.
        let tiles = Tiles { before: 1, key_heads: 2, sharing: 3, width: 2 };
        assert_eq!(tiles.len(), Some(13));
        let stored: Vec<u64> = (0..13).map(|index| tiles.stored(index)).collect();
        assert_eq!(stored, [0, 1, 2, 5, 6, 9, 10, 3, 4, 7, 8, 11, 12]);
        let runs: Vec<u64> = (0..5).map(|index| tiles.run(index)).collect();
        assert_eq!(runs, [1, 2, 1, 2, 1]);
    }
}
