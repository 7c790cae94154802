//! Matrices as they stand here: row by row, in slices that fit them.

/// A matrix in a row-major slice, whose rows begin `stride` elements apart.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a>(anemll_matrix::Matrix<'a>);

impl<'a> Matrix<'a> {
    /// `rows` x `columns` elements of `data`, from its beginning on.
    ///
    /// # Panics
    /// When the slice is too short.
    #[allow(clippy::expect_used)]
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        Self(
            anemll_matrix::Matrix::new(data, 0, [rows, columns], [stride as isize, 1])
                .expect("a matrix of this crate lies inside its slice"),
        )
    }

    /// The same elements, rows as columns.
    pub(crate) fn transposed(self) -> Self {
        Self(self.0.transposed())
    }
}

/// `output` (with rows `stride` elements apart) becomes `keep * output + factor * left * right`.
///
/// # Panics
/// When sizes do not fit.
#[allow(clippy::expect_used)]
pub(crate) fn multiply_add(
    output: &mut [f32],
    stride: usize,
    keep: f32,
    factor: f32,
    left: Matrix<'_>,
    right: Matrix<'_>,
) {
    anemll_matrix::multiply_add(output, [stride as isize, 1], keep, factor, left.0, right.0)
        .expect("products of this crate have sizes that fit");
}
