//! Products of matrices in row-major slices: a safe wrapper of the crate `gemm`.

/// A matrix in a row-major slice, whose rows begin `stride` elements apart.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    stride: usize,
    transposed: bool,
}

impl<'a> Matrix<'a> {
    /// `rows` x `columns` elements of `data`, from its beginning on.
    ///
    /// # Panics
    /// When the slice is too short.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(reaches(data.len(), rows, columns, stride), "a matrix lies inside its slice");
        Self { data, rows, columns, stride, transposed: false }
    }

    /// The same elements, rows as columns.
    pub(crate) fn transposed(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    fn size(&self) -> (usize, usize) {
        if self.transposed { (self.columns, self.rows) } else { (self.rows, self.columns) }
    }

    /// Strides of columns and of rows.
    fn strides(&self) -> (isize, isize) {
        let stride = self.stride as isize;
        if self.transposed { (stride, 1) } else { (1, stride) }
    }
}

fn reaches(length: usize, rows: usize, columns: usize, stride: usize) -> bool {
    let end = rows.saturating_sub(1).checked_mul(stride).and_then(|last| last.checked_add(columns));
    columns <= stride && (rows == 0 || end.is_some_and(|end| end <= length))
}

/// `output` (with rows `stride` elements apart) becomes `keep * output + factor * left * right`.
///
/// # Panics
/// When sizes do not fit.
pub(crate) fn multiply_add(
    output: &mut [f32],
    stride: usize,
    keep: f32,
    factor: f32,
    left: Matrix<'_>,
    right: Matrix<'_>,
) {
    let ((rows, depth), (right_rows, columns)) = (left.size(), right.size());
    assert_eq!(depth, right_rows, "the sizes of factors fit");
    assert!(reaches(output.len(), rows, columns, stride), "a product lies inside its slice");
    if rows == 0 || columns == 0 {
        return;
    }
    let ((left_column, left_row), (right_column, right_row)) = (left.strides(), right.strides());
    // SAFETY: `reaches` has shown for each of the three matrices that its last element lies inside
    // of its slice, and strides are not negative; the output is borrowed mutably, apart from both.
    #[allow(unsafe_code)]
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            output.as_mut_ptr(),
            1,
            stride as isize,
            true,
            left.data.as_ptr(),
            left_column,
            left_row,
            right.data.as_ptr(),
            right_column,
            right_row,
            keep,
            factor,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_with_strides_and_transposition() {
        let left: Vec<f32> = (0..12).map(|number| number as f32).collect();
        let right: Vec<f32> = (0..10).map(|number| 1.0 - number as f32).collect();
        // 3 x 2 of rows 4 apart, 2 x 5.
        let (a, b) = (Matrix::new(&left, 3, 2, 4), Matrix::new(&right, 2, 5, 5));
        let mut output = vec![1.0; 15];
        multiply_add(&mut output, 5, 2.0, -1.0, a, b);
        for row in 0..3 {
            for column in 0..5 {
                let product: f32 = (0..2).map(|k| left[row * 4 + k] * right[k * 5 + column]).sum();
                assert_eq!(output[row * 5 + column], 2.0 - product);
            }
        }
        let mut square = vec![0.0; 9];
        multiply_add(&mut square, 3, 0.0, 1.0, a, a.transposed());
        assert_eq!(square[1], left[0] * left[4] + left[1] * left[5]);
    }

    #[test]
    #[should_panic(expected = "inside its slice")]
    fn a_matrix_beyond_its_slice_is_refused() {
        let _ = Matrix::new(&[0.0; 7], 2, 4, 4);
    }
}
