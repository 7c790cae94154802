//! Whose names and types an asset has.

/// Which names and types the functions of an asset have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// Those of the package.
    Package,
    /// Those that the package's metadata asks for under [`anemll_layout::apple::INTERFACE`]; else its own.
    Asked,
}
