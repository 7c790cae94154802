//! Typed methods, one per operation: operands first, settings as plain values.

use super::{Arg, FunctionBuilder, Var};
use crate::dtype::DataType;
use crate::error::{Error, Result};

/// Methods of operations that take two tensors `x` and `y` and broadcast them.
macro_rules! binary {
    ($($name:ident: $about:literal;)*) => {
        $(
            #[doc = $about]
            ///
            /// Shapes broadcast; element types are equal.
            pub fn $name(&mut self, x: Var, y: Var) -> Result<Var> {
                self.op1(stringify!($name), vec![("x", x.into()), ("y", y.into())])
            }
        )*
    };
}

/// Methods of operations that map one tensor `x` element by element.
macro_rules! unary {
    ($($name:ident: $about:literal;)*) => {
        $(
            #[doc = $about]
            ///
            /// The result has the type of `x`.
            pub fn $name(&mut self, x: Var) -> Result<Var> {
                self.op1(stringify!($name), vec![("x", x.into())])
            }
        )*
    };
}

/// Methods of reductions over several axes.
macro_rules! reduction {
    ($($name:ident: $about:literal;)*) => {
        $(
            #[doc = $about]
            ///
            /// Reduced axes stay with size 1 if `keep_dims`, else they go.
            pub fn $name(&mut self, x: Var, axes: &[i32], keep_dims: bool) -> Result<Var> {
                let axes = self.vector_i32(axes)?;
                let keep_dims = self.scalar_bool(keep_dims)?;
                self.op1(
                    stringify!($name),
                    vec![("x", x.into()), ("axes", axes.into()), ("keep_dims", keep_dims.into())],
                )
            }
        )*
    };
}

impl FunctionBuilder {
    binary! {
        add: "Sum.";
        sub: "Difference `x - y`.";
        mul: "Product.";
        real_div: "Quotient `x / y`.";
        floor_div: "Quotient rounded down.";
        pow: "Power `x ^ y`.";
        maximum: "The larger of both.";
        minimum: "The smaller of both.";
        greater: "Whether `x > y`, as bool.";
        greater_equal: "Whether `x >= y`, as bool.";
        less: "Whether `x < y`, as bool.";
        less_equal: "Whether `x <= y`, as bool.";
        equal: "Whether both are equal, as bool.";
        not_equal: "Whether both differ, as bool.";
        logical_and: "Whether both are true.";
        logical_or: "Whether one is true.";
    }

    unary! {
        silu: "`x * sigmoid(x)`.";
        sigmoid: "Logistic function.";
        relu: "The positive part.";
        tanh: "Hyperbolic tangent.";
        exp: "Exponential.";
        sqrt: "Square root.";
        square: "Square.";
        abs: "Absolute value.";
        cos: "Cosine.";
        sin: "Sine.";
        erf: "Error function.";
        logical_not: "Negation of a bool.";
        identity: "A copy.";
    }

    reduction! {
        reduce_max: "Largest element along axes.";
        reduce_min: "Smallest element along axes.";
        reduce_sum: "Sum along axes.";
        reduce_mean: "Mean along axes.";
    }

    /// `1 / sqrt(x + epsilon)`, epsilon rounded to fp16.
    pub fn rsqrt(&mut self, x: Var, epsilon: f32) -> Result<Var> {
        let epsilon = self.scalar_f16(epsilon)?;
        self.op1("rsqrt", vec![("x", x.into()), ("epsilon", epsilon.into())])
    }

    /// `ln(x + epsilon)`, epsilon rounded to fp16.
    pub fn log(&mut self, x: Var, epsilon: f32) -> Result<Var> {
        let epsilon = self.scalar_f16(epsilon)?;
        self.op1("log", vec![("x", x.into()), ("epsilon", epsilon.into())])
    }

    /// Gaussian error linear unit; `mode` is `EXACT`, `TANH_APPROXIMATION` or
    /// `SIGMOID_APPROXIMATION`.
    pub fn gelu(&mut self, x: Var, mode: &str) -> Result<Var> {
        let mode = self.string(mode)?;
        self.op1("gelu", vec![("x", x.into()), ("mode", mode.into())])
    }

    /// `x` held between two fp16 bounds.
    pub fn clip(&mut self, x: Var, low: f32, high: f32) -> Result<Var> {
        let alpha = self.scalar_f16(low)?;
        let beta = self.scalar_f16(high)?;
        self.op1("clip", vec![("x", x.into()), ("alpha", alpha.into()), ("beta", beta.into())])
    }

    /// 1x1 convolution: `x` (batch, in, height, width), `weight` (out, in, 1, 1), `bias` (out)
    /// gives (batch, out, height, width).
    pub fn conv1x1(&mut self, x: Var, weight: Var, bias: Option<Var>) -> Result<Var> {
        let pad_type = self.string("valid")?;
        let ones = self.vector_i32(&[1, 1])?;
        let pad = self.vector_i32(&[0; 4])?;
        let groups = self.scalar_i32(1)?;
        let mut arguments: Vec<(&str, Arg)> = vec![
            ("x", x.into()),
            ("weight", weight.into()),
            ("strides", ones.into()),
            ("pad_type", pad_type.into()),
            ("pad", pad.into()),
            ("dilations", ones.into()),
            ("groups", groups.into()),
        ];
        if let Some(bias) = bias {
            arguments.push(("bias", bias.into()));
        }
        self.op1("conv", arguments)
    }

    /// `x` (…, in) times the transpose of `weight` (out, in), plus `bias` (out): (…, out).
    pub fn linear(&mut self, x: Var, weight: Var, bias: Option<Var>) -> Result<Var> {
        let mut arguments: Vec<(&str, Arg)> = vec![("x", x.into()), ("weight", weight.into())];
        if let Some(bias) = bias {
            arguments.push(("bias", bias.into()));
        }
        self.op1("linear", arguments)
    }

    /// Matrix product of the last two axes; the axes before them broadcast.
    pub fn matmul(&mut self, x: Var, y: Var, transpose_x: bool, transpose_y: bool) -> Result<Var> {
        let transpose_x = self.scalar_bool(transpose_x)?;
        let transpose_y = self.scalar_bool(transpose_y)?;
        self.op1(
            "matmul",
            vec![
                ("x", x.into()),
                ("y", y.into()),
                ("transpose_x", transpose_x.into()),
                ("transpose_y", transpose_y.into()),
            ],
        )
    }

    /// Another shape of the same elements; one size may be -1 (the rest).
    pub fn reshape(&mut self, x: Var, shape: &[i64]) -> Result<Var> {
        let shape = shape
            .iter()
            .map(|size| i32::try_from(*size))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| Error::new(format!("reshape to {shape:?}: a size is beyond int32")))?;
        let shape = self.vector_i32(&shape)?;
        self.op1("reshape", vec![("x", x.into()), ("shape", shape.into())])
    }

    /// Axes in another order.
    pub fn transpose(&mut self, x: Var, permutation: &[i32]) -> Result<Var> {
        let permutation = self.vector_i32(permutation)?;
        self.op1("transpose", vec![("x", x.into()), ("perm", permutation.into())])
    }

    /// New axes of size 1, at these places of the result.
    pub fn expand_dims(&mut self, x: Var, axes: &[i32]) -> Result<Var> {
        let axes = self.vector_i32(axes)?;
        self.op1("expand_dims", vec![("x", x.into()), ("axes", axes.into())])
    }

    /// Without these axes, which have size 1.
    pub fn squeeze(&mut self, x: Var, axes: &[i32]) -> Result<Var> {
        let axes = self.vector_i32(axes)?;
        self.op1("squeeze", vec![("x", x.into()), ("axes", axes.into())])
    }

    /// Tensors one after another along an axis.
    pub fn concat(&mut self, values: &[Var], axis: i32) -> Result<Var> {
        let axis = self.scalar_i32(axis)?;
        let interleave = self.scalar_bool(false)?;
        self.op1(
            "concat",
            vec![
                ("values", values.into()),
                ("axis", axis.into()),
                ("interleave", interleave.into()),
            ],
        )
    }

    /// Tensors of one shape along a new axis.
    pub fn stack(&mut self, values: &[Var], axis: i32) -> Result<Var> {
        let axis = self.scalar_i32(axis)?;
        self.op1("stack", vec![("values", values.into()), ("axis", axis.into())])
    }

    /// Pieces of these sizes along an axis.
    pub fn split(&mut self, x: Var, sizes: &[i32], axis: i32) -> Result<Vec<Var>> {
        let sizes = self.vector_i32(sizes)?;
        let axis = self.scalar_i32(axis)?;
        self.op(
            "split",
            vec![("x", x.into()), ("split_sizes", sizes.into()), ("axis", axis.into())],
        )
    }

    /// The part from `begin` to before `end` on every axis. Where a mask is true, the axis starts
    /// at its beginning or ends at its end whatever `begin` or `end` say; an empty mask is all
    /// false.
    pub fn slice_by_index(
        &mut self,
        x: Var,
        begin: &[i32],
        end: &[i32],
        begin_mask: &[bool],
        end_mask: &[bool],
    ) -> Result<Var> {
        let begin = self.vector_i32(begin)?;
        let end = self.vector_i32(end)?;
        self.slice_by_index_at(x, begin, end, begin_mask, end_mask)
    }

    /// As [`Self::slice_by_index`], of every `stride`th element along each axis.
    ///
    /// # Errors
    /// As [`Self::slice_by_index`].
    pub fn slice_by_index_in_steps(
        &mut self,
        x: Var,
        [begin, end, stride]: [&[i32]; 3],
        begin_mask: &[bool],
        end_mask: &[bool],
    ) -> Result<Var> {
        let begin = self.vector_i32(begin)?;
        let end = self.vector_i32(end)?;
        let stride = self.vector_i32(stride)?;
        let bounds = [("x", x), ("begin", begin), ("end", end), ("stride", stride)];
        let arguments = bounds.map(|(name, value)| (name, value.into())).to_vec();
        let arguments = self.with_masks(arguments, begin_mask, end_mask)?;
        self.op1("slice_by_index", arguments)
    }

    /// As [`Self::slice_by_index`], with bounds that may be known only at run time (int32 vectors
    /// as long as the rank of `x`).
    pub fn slice_by_index_at(
        &mut self,
        x: Var,
        begin: Var,
        end: Var,
        begin_mask: &[bool],
        end_mask: &[bool],
    ) -> Result<Var> {
        let arguments = vec![("x", x.into()), ("begin", begin.into()), ("end", end.into())];
        let arguments = self.with_masks(arguments, begin_mask, end_mask)?;
        self.op1("slice_by_index", arguments)
    }

    /// `x` with the part from `begin` to before `end` replaced by `update`, which has just the
    /// shape of that part. Bounds are int32 vectors as long as the rank of `x`; masks as in
    /// [`Self::slice_by_index`].
    pub fn slice_update(
        &mut self,
        x: Var,
        update: Var,
        begin: Var,
        end: Var,
        begin_mask: &[bool],
        end_mask: &[bool],
    ) -> Result<Var> {
        let arguments = vec![
            ("x", x.into()),
            ("update", update.into()),
            ("begin", begin.into()),
            ("end", end.into()),
        ];
        let arguments = self.with_masks(arguments, begin_mask, end_mask)?;
        self.op1("slice_update", arguments)
    }

    fn with_masks<'a>(
        &mut self,
        mut arguments: Vec<(&'a str, Arg)>,
        begin_mask: &[bool],
        end_mask: &[bool],
    ) -> Result<Vec<(&'a str, Arg)>> {
        if !begin_mask.is_empty() {
            arguments.push(("begin_mask", self.vector_bool(begin_mask)?.into()));
        }
        if !end_mask.is_empty() {
            arguments.push(("end_mask", self.vector_bool(end_mask)?.into()));
        }
        Ok(arguments)
    }

    /// The present content of a state.
    pub fn read_state(&mut self, state: Var) -> Result<Var> {
        self.op1("read_state", vec![("input", state.into())])
    }

    /// Writes a tensor of the state's type to the state. Read the state again for the new content.
    pub fn write_state(&mut self, state: Var, data: Var) -> Result<()> {
        self.op("write_state", vec![("input", state.into()), ("data", data.into())]).map(|_| ())
    }

    /// Elements of `x` along an axis at `indices`: the axis is replaced by the axes of `indices`.
    pub fn gather(&mut self, x: Var, indices: Var, axis: i32) -> Result<Var> {
        let axis = self.scalar_i32(axis)?;
        let batch_dims = self.scalar_i32(0)?;
        let validate_indices = self.scalar_bool(false)?;
        self.op1(
            "gather",
            vec![
                ("x", x.into()),
                ("indices", indices.into()),
                ("axis", axis.into()),
                ("batch_dims", batch_dims.into()),
                ("validate_indices", validate_indices.into()),
            ],
        )
    }

    /// Another element type.
    pub fn cast(&mut self, x: Var, data_type: DataType) -> Result<Var> {
        let data_type = self.string(data_type.mil_name())?;
        self.op1("cast", vec![("x", x.into()), ("dtype", data_type.into())])
    }

    /// Normalization to mean 0 and variance 1 over axes, without gain and bias; epsilon is
    /// rounded to fp16.
    pub fn layer_norm(&mut self, x: Var, axes: &[i32], epsilon: f32) -> Result<Var> {
        let axes = self.vector_i32(axes)?;
        let epsilon = self.scalar_f16(epsilon)?;
        self.op1(
            "layer_norm",
            vec![("x", x.into()), ("axes", axes.into()), ("epsilon", epsilon.into())],
        )
    }

    /// Softmax along an axis.
    pub fn softmax(&mut self, x: Var, axis: i32) -> Result<Var> {
        let axis = self.scalar_i32(axis)?;
        self.op1("softmax", vec![("x", x.into()), ("axis", axis.into())])
    }

    /// Place of the largest element along an axis, as int32.
    pub fn reduce_argmax(&mut self, x: Var, axis: i32, keep_dims: bool) -> Result<Var> {
        let axis = self.scalar_i32(axis)?;
        let keep_dims = self.scalar_bool(keep_dims)?;
        let output_dtype = self.string("int32")?;
        self.op1(
            "reduce_argmax",
            vec![
                ("x", x.into()),
                ("axis", axis.into()),
                ("keep_dims", keep_dims.into()),
                ("output_dtype", output_dtype.into()),
            ],
        )
    }

    /// Every axis repeated as often as `repetitions` says.
    pub fn tile(&mut self, x: Var, repetitions: &[i32]) -> Result<Var> {
        let repetitions = self.vector_i32(repetitions)?;
        self.op1("tile", vec![("x", x.into()), ("reps", repetitions.into())])
    }

    /// `a` where the condition is true, else `b`; shapes broadcast.
    pub fn select(&mut self, condition: Var, a: Var, b: Var) -> Result<Var> {
        self.op1("select", vec![("cond", condition.into()), ("a", a.into()), ("b", b.into())])
    }

    /// Rest of the division `x / y`, with the sign of `y`.
    pub fn remainder(&mut self, x: Var, y: Var) -> Result<Var> {
        self.op1("mod", vec![("x", x.into()), ("y", y.into())])
    }
}
