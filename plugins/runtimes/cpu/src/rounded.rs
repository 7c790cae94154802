//! Weights as whole numbers of 12 bits, which functions and sessions share.

use crate::fixed;
use crate::storage::Buffer;

/// Rows that [`fixed::Tables::rounded`] made, and their bytes.
#[derive(Debug)]
pub(crate) struct Rounded {
    pub(crate) rows: fixed::Tables,
    pub(crate) bytes: Buffer,
}
