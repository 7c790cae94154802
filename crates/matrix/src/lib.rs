//! Products of f32 matrices that lie in slices: a safe wrapper of the crate `gemm`, on one thread.

/// A matrix would reach beyond the slice that it lies in, or sizes of factors do not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MatrixError {
    /// An element would lie outside of the slice.
    #[error("a matrix does not lie inside its slice")]
    Outside,
    /// The left factor has not as many columns as the right one has rows.
    #[error("the sizes of two factors do not fit")]
    Sizes,
}

/// Rows x columns in a slice of f32, with any strides.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    start: usize,
    rows: usize,
    columns: usize,
    row_stride: isize,
    column_stride: isize,
}

impl<'a> Matrix<'a> {
    /// The matrix whose element in row 0 and column 0 is `data[start]`; the element one row below
    /// lies `strides[0]` elements on, and that one column to the right `strides[1]`.
    ///
    /// # Errors
    /// When an element would lie outside of the slice.
    pub fn new(
        data: &'a [f32],
        start: usize,
        [rows, columns]: [usize; 2],
        [row_stride, column_stride]: [isize; 2],
    ) -> Result<Self, MatrixError> {
        if !inside(data.len(), start, [rows, columns], [row_stride, column_stride]) {
            return Err(MatrixError::Outside);
        }
        Ok(Self { data, start, rows, columns, row_stride, column_stride })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The same elements, rows as columns.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// The element in a row and a column.
    ///
    /// # Panics
    /// When there is no such row or column.
    pub fn at(&self, row: usize, column: usize) -> f32 {
        assert!(row < self.rows && column < self.columns, "an element of the matrix");
        self.data[self.place(row, column)]
    }

    /// A column, where its elements lie side by side.
    ///
    /// # Panics
    /// When there is no such column.
    pub fn column(&self, column: usize) -> Option<&'a [f32]> {
        assert!(column < self.columns, "a column of the matrix");
        if self.rows == 0 {
            return Some(&[]);
        }
        let start = self.place(0, column);
        (self.row_stride == 1).then(|| &self.data[start..start + self.rows])
    }

    /// A row, where its elements lie side by side.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, row: usize) -> Option<&'a [f32]> {
        self.transposed().column(row)
    }

    fn place(&self, row: usize, column: usize) -> usize {
        let steps = self.row_stride * row as isize + self.column_stride * column as isize;
        (self.start as isize + steps) as usize
    }

    /// The pointer to the element in row 0 and column 0. It may reach all of the slice, also what
    /// lies before that element, where negative strides lead.
    fn first(&self) -> *const f32 {
        self.data.as_ptr().wrapping_add(self.start)
    }
}

/// Whether all elements of a matrix lie inside a slice of this length.
fn inside(
    length: usize,
    start: usize,
    [rows, columns]: [usize; 2],
    [row_stride, column_stride]: [isize; 2],
) -> bool {
    if rows == 0 || columns == 0 {
        return true;
    }
    let reach = |count: usize, stride: isize| isize::try_from(count - 1).ok()?.checked_mul(stride);
    let (Some(down), Some(across)) = (reach(rows, row_stride), reach(columns, column_stride))
    else {
        return false;
    };
    let Ok(start) = isize::try_from(start) else { return false };
    let low = start.checked_add(down.min(0)).and_then(|low| low.checked_add(across.min(0)));
    let high = start.checked_add(down.max(0)).and_then(|high| high.checked_add(across.max(0)));
    matches!((low, high), (Some(low), Some(high)) if low >= 0 && (high as usize) < length)
}

/// The matrix at the beginning of `output`, with these strides of rows and columns, becomes
/// `keep * output + factor * left * right`; with a `keep` of 0, what it held does not matter.
///
/// # Errors
/// When the sizes of the factors do not fit, or the product does not lie inside of `output`.
pub fn multiply_add(
    output: &mut [f32],
    [row_stride, column_stride]: [isize; 2],
    keep: f32,
    factor: f32,
    left: Matrix<'_>,
    right: Matrix<'_>,
) -> Result<(), MatrixError> {
    let (rows, depth, columns) = (left.rows, left.columns, right.columns);
    if depth != right.rows {
        return Err(MatrixError::Sizes);
    }
    if !inside(output.len(), 0, [rows, columns], [row_stride, column_stride]) {
        return Err(MatrixError::Outside);
    }
    if rows == 0 || columns == 0 {
        return Ok(());
    }
    // SAFETY: `inside` has shown for each of the three matrices that every element that its strides
    // reach lies in its slice, and each pointer comes from the whole slice; the output is borrowed
    // mutably and therefore apart from the factors.
    #[allow(unsafe_code)]
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            output.as_mut_ptr(),
            column_stride,
            row_stride,
            keep != 0.0,
            left.first(),
            left.column_stride,
            left.row_stride,
            right.first(),
            right.column_stride,
            right.row_stride,
            keep,
            factor,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_outside_their_slice_are_refused() {
        let data = [0.0; 6];
        let matrix = |start, sizes, strides| Matrix::new(&data, start, sizes, strides);
        let good = matrix(0, [2, 3], [3, 1]).unwrap();
        let mut output = [0.0; 4];
        let mut product = |left, right| multiply_add(&mut output, [2, 1], 0.0, 1.0, left, right);
        assert_eq!(product(good, matrix(0, [3, 2], [2, 1]).unwrap()), Ok(()));
        assert_eq!(product(good, good), Err(MatrixError::Sizes));
        assert_eq!(product(good.transposed(), good), Err(MatrixError::Outside));
        for (start, sizes, strides) in [
            (1, [3, 2], [2, 1]),
            (0, [3, 2], [-2, 1]),
            (0, [3, 3], [3, 1]),
            (6, [1, 1], [1, 1]),
            (0, [usize::MAX, 2], [3, 1]),
            (usize::MAX, [1, 1], [1, 1]),
        ] {
            assert_eq!(matrix(start, sizes, strides).err(), Some(MatrixError::Outside));
        }
        assert!(matrix(6, [0, 3], [3, 1]).is_ok());
    }

    #[test]
    fn strides_may_lead_backwards_from_the_start() {
        // Both matrices begin at the last element of their slices.
        let data = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let left = Matrix::new(&data, 5, [2, 3], [-3, -1]).unwrap();
        let right = Matrix::new(&data, 5, [3, 2], [-2, -1]).unwrap();
        let mut output = [f32::NAN; 4];
        multiply_add(&mut output, [2, 1], 0.0, 1.0, left, right).unwrap();
        // [6 5 4; 3 2 1] * [6 5; 4 3; 2 1]
        assert_eq!(output, [64.0, 49.0, 28.0, 22.0]);
        assert_eq!((left.at(1, 0), left.column(0)), (3.0, None));
        assert_eq!((left.rows(), left.columns()), (2, 3));
    }

    #[test]
    fn products_with_strides_and_transposition() {
        let left: Vec<f32> = (0..12).map(|number| number as f32).collect();
        let right: Vec<f32> = (0..10).map(|number| 1.0 - number as f32).collect();
        // 3 x 2 of rows 4 apart, 2 x 5.
        let a = Matrix::new(&left, 0, [3, 2], [4, 1]).unwrap();
        let b = Matrix::new(&right, 0, [2, 5], [5, 1]).unwrap();
        let mut output = vec![1.0; 15];
        multiply_add(&mut output, [5, 1], 2.0, -1.0, a, b).unwrap();
        for row in 0..3 {
            for column in 0..5 {
                let product: f32 = (0..2).map(|k| left[row * 4 + k] * right[k * 5 + column]).sum();
                assert_eq!(output[row * 5 + column], 2.0 - product);
            }
        }
        let mut square = vec![0.0; 9];
        multiply_add(&mut square, [3, 1], 0.0, 1.0, a, a.transposed()).unwrap();
        assert_eq!(square[1], left[0] * left[4] + left[1] * left[5]);
        assert_eq!(a.transposed().column(2), Some(&left[8..10]));
    }
}
