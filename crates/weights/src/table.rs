//! How the lookup tables of a palettized weight are used.

use crate::decode::Values;
use crate::source::PIECE;
use anemll_mlpackage::PackageError;
use serde::Serialize;

/// Use of the tables of one weight. A group of elements has a table of its own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TableUse {
    /// Number of tables.
    pub tables: usize,
    /// Entries of each table.
    pub entries: usize,
    /// Values of one entry; 1 but for vector palettization.
    pub length: usize,
    /// Fewest entries of a table that an index names.
    pub fewest_used: usize,
    /// Most entries of a table that an index names.
    pub most_used: usize,
    /// Entries that an index names, of all tables together.
    pub used: usize,
    /// Smallest entry value of all tables, NaN left out; 0 if there is none.
    pub smallest: f32,
    /// Largest entry value of all tables, NaN left out; 0 if there is none.
    pub largest: f32,
    /// Bits that an ideal code would need for an index, on average: the entropy of the indices
    /// of each table. Far below the bits that are stored, tables are badly used.
    pub entropy: f64,
}

impl TableUse {
    /// Counts how often each entry is named; `None` for a weight without tables.
    ///
    /// # Errors
    /// A weight file that cannot be read, or became shorter.
    pub fn of(values: &Values<'_>) -> Result<Option<Self>, PackageError> {
        let Some((lookup, mask)) = values.source.lookup() else { return Ok(None) };
        let (tables, entries, length) = (lookup.groups.count(), lookup.entries, lookup.length);
        let Some(all) = tables.checked_mul(entries) else { return Ok(None) };
        let mut counts = vec![0_u64; all];
        let total = values.count() / length.max(1);
        let mut piece = [0.0; PIECE];
        let mut start = 0;
        while start < total {
            let piece = &mut piece[..PIECE.min(total - start)];
            lookup.indices.fill(start, piece)?;
            lookup.groups.for_runs(start, start + piece.len(), |range, group| {
                let own = counts.get_mut(group * entries..).unwrap_or_default();
                for place in range {
                    if mask.is_none_or(|mask| mask.is_set(place))
                        && let Some(count) = own.get_mut(piece[place - start] as usize)
                    {
                        *count += 1;
                    }
                }
            });
            start += piece.len();
        }
        let (mut fewest_used, mut most_used, mut used) = (entries, 0, 0);
        let (mut bits, mut indices) = (0.0, 0_u64);
        for own in counts.chunks(entries.max(1)) {
            let here = own.iter().filter(|count| **count > 0).count();
            fewest_used = fewest_used.min(here);
            most_used = most_used.max(here);
            used += here;
            let sum: u64 = own.iter().sum();
            indices += sum;
            for count in own.iter().filter(|count| **count > 0) {
                bits -= *count as f64 * (*count as f64 / sum as f64).log2();
            }
        }
        let finite = lookup.table.iter().copied().filter(|value| !value.is_nan());
        let (smallest, largest) = finite
            .fold(None, |range: Option<(f32, f32)>, value| {
                let (low, high) = range.unwrap_or((value, value));
                Some((low.min(value), high.max(value)))
            })
            .unwrap_or_default();
        let entropy = if indices == 0 { 0.0 } else { bits / indices as f64 };
        Ok(Some(Self {
            tables,
            entries,
            length,
            fewest_used,
            most_used,
            used,
            smallest,
            largest,
            entropy,
        }))
    }
}
