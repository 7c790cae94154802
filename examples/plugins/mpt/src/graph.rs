//! The functions, operation by operation. Inputs, outputs and the state are those that all conversions
//! have; see `anemll_decoder::lower`.

use anemll_decoder::{STATE_NAME, split_head};
use anemll_mil::{DataType, DescriptionOptions, Dimension, FunctionBuilder, TensorType, Var};
use anemll_plugin_api::data::{FunctionSpec, LayerRange, Purpose, WeightReference};
use anemll_plugin_api::{Error, Result, codes};
use coreml_proto::Model;
use half::f16;

use crate::config::{HEAD_PIECES, Mpt};
use crate::weights::Matrix;

/// A function that is being built.
struct Graph<'a> {
    mpt: &'a Mpt,
    builder: FunctionBuilder,
    /// Tokens that it takes.
    tokens: u64,
}

/// What all layers of a function read.
struct Shared {
    /// Bias of the scores: ALiBi's and the mask, (1, heads, T, C).
    bias: Var,
    state: Var,
    /// First and last position that is written, int32 (1) each.
    position: Var,
    end: Var,
}

/// One function as a model.
pub(crate) fn lower(mpt: &Mpt, function: &FunctionSpec) -> Result<Model> {
    check(mpt, function).map_err(|reason| {
        let at = format!("function `{}`", function.id);
        Error::new(codes::PLUGIN_BAD_REQUEST, reason).with_at(at)
    })?;
    build(mpt, function).map_err(|error| {
        Error::new(codes::GRAPH_INVALID, format!("the graph cannot be built: {error}"))
            .with_at(format!("function `{}`", function.id))
    })
}

/// Whether the pieces of a function go together.
fn check(mpt: &Mpt, function: &FunctionSpec) -> std::result::Result<(), &'static str> {
    let (infer, prefill) =
        (function.purpose == Purpose::Infer, function.purpose == Purpose::Prefill);
    if !(infer || prefill || function.purpose == Purpose::Evaluate) {
        return Err("has a purpose that is not known");
    }
    match function.layers {
        None if function.embedding == function.head => return Err("has no pieces, or two apart"),
        Some(range) if range.first >= range.end || range.end > mpt.layers => {
            return Err("asks for layers that are not there");
        }
        Some(range) if function.embedding && range.first != 0 => {
            return Err("has the embedding without the first layer");
        }
        Some(range) if function.head && range.end != mpt.layers => {
            return Err("has the head without the last layer");
        }
        _ => {}
    }
    if function.head && prefill {
        return Err("is for prefill, which gives no logits");
    }
    if function.argmax && !(function.head && infer) {
        return Err("asks for argmax, which only heads for one token give");
    }
    Ok(())
}

fn build(mpt: &Mpt, function: &FunctionSpec) -> anemll_mil::Result<Model> {
    let tokens = if function.purpose == Purpose::Infer { 1 } else { mpt.batch };
    let mut graph = Graph { mpt, builder: FunctionBuilder::new(), tokens };
    let mut options = DescriptionOptions::default();
    let alone = function.layers.is_none() && !function.head;
    let mut hidden = if function.embedding {
        let length = if alone && mpt.batch > 1 {
            let shapes = vec![vec![1, 1], vec![1, mpt.batch]];
            options.enumerated_shapes.insert("input_ids".to_owned(), shapes);
            graph.builder.symbol()
        } else {
            Dimension::Fixed(if alone { 1 } else { tokens })
        };
        let shape = vec![Dimension::Fixed(1), length];
        graph.builder.input("input_ids", TensorType::with_shape(DataType::Int32, shape))?
    } else {
        let kind = TensorType::new(DataType::Float16, &[1, tokens, mpt.width]);
        graph.builder.input("hidden_states", kind)?
    };
    // All inputs are declared before any operation is made.
    let inputs = match function.layers {
        Some(range) => Some((range, graph.layer_inputs()?)),
        None => None,
    };
    if function.embedding {
        hidden = graph.embed(hidden)?;
    }
    if let Some((range, [positions, mask, current, state])) = inputs {
        let shared = graph.shared(positions, mask, current, state)?;
        hidden = graph.layers(hidden, &shared, range, function.purpose)?;
    }
    let outputs = if function.head {
        graph.head(hidden, function.argmax)?
    } else {
        let name = if alone { "hidden_states" } else { "output_hidden_states" };
        graph.builder.name_value(hidden, name)?;
        vec![hidden]
    };
    let main = graph.builder.finish(&outputs)?;
    anemll_mil::function_model(main, &options)
}

impl Graph<'_> {
    fn weight(
        &mut self,
        name: &str,
        reference: &WeightReference,
        shape: &[u64],
    ) -> anemll_mil::Result<Var> {
        self.builder.weight(name, &reference.to_file_name(), DataType::Float16, shape)
    }

    fn layer_inputs(&mut self) -> anemll_mil::Result<[Var; 4]> {
        let integers = |length| TensorType::new(DataType::Int32, &[length]);
        let mask = TensorType::new(DataType::Float16, &[1, 1, self.tokens, self.mpt.context]);
        let state = TensorType::new(DataType::Float16, &self.mpt.state_shape());
        Ok([
            self.builder.input("position_ids", integers(self.tokens))?,
            self.builder.input("causal_mask", mask)?,
            self.builder.input("current_pos", integers(1))?,
            self.builder.state(STATE_NAME, state)?,
        ])
    }

    /// Rows of the embedding: int32 (1, T) to float16 (1, T, width).
    fn embed(&mut self, ids: Var) -> anemll_mil::Result<Var> {
        let mpt = self.mpt;
        let shape = [mpt.vocabulary, mpt.width];
        let table = self.weight("embedding", &mpt.table("embedding"), &shape)?;
        self.builder.gather(table, ids, 0)
    }

    /// ALiBi: a head of slope s adds `s (column - position)` to its scores. Distances, not positions,
    /// are multiplied: they are small where much depends on them.
    fn shared(
        &mut self,
        positions: Var,
        mask: Var,
        current: Var,
        state: Var,
    ) -> anemll_mil::Result<Shared> {
        let (context, heads) = (self.mpt.context, self.mpt.heads);
        let builder = &mut self.builder;
        let own = if self.tokens == 1 {
            // One token stands at `current_pos`; the apps give `position_ids` all the same.
            let copy = builder.identity(positions)?;
            builder.name_value(copy, "position_ids_tmp")?;
            current
        } else {
            positions
        };
        let own = builder.cast(own, DataType::Float16)?;
        let own = builder.reshape(own, &[1, 1, self.tokens as i64, 1])?;
        let columns: Vec<f16> = (0..context).map(|column| f16::from_f64(column as f64)).collect();
        let columns = builder.table_f16("alibi_columns", &[1, 1, 1, context], &columns)?;
        let slopes: Vec<f16> = self.mpt.slopes().into_iter().map(f16::from_f64).collect();
        let slopes = builder.table_f16("alibi_slopes", &[1, heads, 1, 1], &slopes)?;
        let distance = builder.sub(columns, own)?;
        let bias = builder.mul(distance, slopes)?;
        let bias = builder.add(bias, mask)?;
        let tokens = builder.scalar_i32(self.tokens as i32)?;
        let end = builder.add(current, tokens)?;
        Ok(Shared { bias, state, position: current, end })
    }

    fn layers(
        &mut self,
        mut hidden: Var,
        shared: &Shared,
        range: LayerRange,
        purpose: Purpose,
    ) -> anemll_mil::Result<Var> {
        let last = self.mpt.layers - 1;
        for layer in range.first..range.end {
            self.builder.scope(&format!("blocks_{layer}"));
            let x = self.norm(hidden, &format!("blocks.{layer}.norm_1"))?;
            let mixed = self.attention(x, shared, layer)?;
            hidden = self.builder.add(hidden, mixed)?;
            // After the last layer's state nothing matters in prefill.
            if layer != last || purpose != Purpose::Prefill {
                let x = self.norm(hidden, &format!("blocks.{layer}.norm_2"))?;
                let inner = self.project(x, layer, Matrix::Up)?;
                let inner = self.builder.gelu(inner, "EXACT")?;
                let given = self.convolve(inner, layer, Matrix::Down)?;
                let given = self.rows(given)?;
                hidden = self.builder.add(hidden, given)?;
            }
            self.builder.end_scope();
        }
        if range.end <= last {
            return Ok(hidden);
        }
        if purpose == Purpose::Prefill {
            let end = [1, 1, self.mpt.width as i32];
            let whole = [true, false, true];
            return self.builder.slice_by_index(hidden, &[0; 3], &end, &[], &whole);
        }
        self.norm(hidden, "norm_f")
    }

    fn norm(&mut self, x: Var, module: &str) -> anemll_mil::Result<Var> {
        let normed = self.builder.layer_norm(x, &[-1], self.mpt.epsilon as f32)?;
        let name = module.replace('.', "_");
        let gain = self.weight(&name, &self.mpt.gain(module), &[self.mpt.width])?;
        self.builder.mul(normed, gain)
    }

    /// A projection of rows: (1, T, in) to channels (1, out, 1, T).
    fn project(&mut self, x: Var, layer: u32, matrix: Matrix) -> anemll_mil::Result<Var> {
        let x = self.builder.transpose(x, &[0, 2, 1])?;
        let x = self.builder.expand_dims(x, &[2])?;
        self.convolve(x, layer, matrix)
    }

    fn convolve(&mut self, x: Var, layer: u32, matrix: Matrix) -> anemll_mil::Result<Var> {
        let (reference, [given, read]) = self.mpt.matrix(layer, matrix);
        let name = reference.role.replace('.', "_");
        let weight = self.weight(&name, &reference, &[given, read, 1, 1])?;
        self.builder.conv1x1(x, weight, None)
    }

    /// Channels to rows: (1, n, 1, T) to (1, T, n).
    fn rows(&mut self, x: Var) -> anemll_mil::Result<Var> {
        let x = self.builder.squeeze(x, &[2])?;
        self.builder.transpose(x, &[0, 2, 1])
    }

    /// A projection cut into heads, (1, heads, T, head width).
    fn heads(&mut self, x: Var, layer: u32, matrix: Matrix) -> anemll_mil::Result<Var> {
        let channels = self.project(x, layer, matrix)?;
        let (heads, width) = (self.mpt.heads as i64, self.mpt.head_width() as i64);
        let shape = [1, heads, width, self.tokens as i64];
        let columns = self.builder.reshape(channels, &shape)?;
        self.builder.transpose(columns, &[0, 1, 3, 2])
    }

    fn attention(&mut self, x: Var, shared: &Shared, layer: u32) -> anemll_mil::Result<Var> {
        let queries = self.heads(x, layer, Matrix::Query)?;
        let keys = self.heads(x, layer, Matrix::Key)?;
        let values = self.heads(x, layer, Matrix::Value)?;
        let keys = self.remember(shared, layer, keys)?;
        let values = self.remember(shared, self.mpt.layers + layer, values)?;
        let scores = self.builder.matmul(queries, keys, false, true)?;
        let scale = self.builder.scalar_f16(self.mpt.score_scale as f32)?;
        let scores = self.builder.mul(scores, scale)?;
        let scores = self.builder.add(scores, shared.bias)?;
        let weights = self.builder.softmax(scores, -1)?;
        let mixed = self.builder.matmul(weights, values, false, false)?;
        let mixed = self.builder.transpose(mixed, &[0, 2, 1, 3])?;
        let shape = [1, self.tokens as i64, self.mpt.width as i64];
        let mixed = self.builder.reshape(mixed, &shape)?;
        let given = self.project(mixed, layer, Matrix::Output)?;
        self.rows(given)
    }

    /// Writes new keys or values into a row of the state, and gives all that it has of the context:
    /// (1, heads, C, head width).
    fn remember(&mut self, shared: &Shared, row: u32, update: Var) -> anemll_mil::Result<Var> {
        let [_, heads, _, width] = self.mpt.state_shape().map(|size| size as i32);
        let row = row as i32;
        let builder = &mut self.builder;
        let content = builder.read_state(shared.state)?;
        let zero = builder.vector_i32(&[0])?;
        let first = builder.vector_i32(&[row])?;
        let begin = builder.concat(&[first, zero, shared.position, zero], 0)?;
        let after = builder.vector_i32(&[row + 1])?;
        let end = builder.concat(&[after, zero, shared.end, zero], 0)?;
        let whole = [false, true, false, true];
        let updated = builder.slice_update(content, update, begin, end, &[false; 4], &whole)?;
        builder.write_state(shared.state, updated)?;
        let content = builder.read_state(shared.state)?;
        let end = [row + 1, heads, self.mpt.context as i32, width];
        let whole = [false, true, false, true];
        builder.slice_by_index(content, &[row, 0, 0, 0], &end, &[], &whole)
    }

    /// Logits in pieces, or each piece's largest logit.
    fn head(&mut self, x: Var, argmax: bool) -> anemll_mil::Result<Vec<Var>> {
        let mpt = self.mpt;
        let x = self.builder.transpose(x, &[0, 2, 1])?;
        let x = self.builder.expand_dims(x, &[2])?;
        let splits = split_head(mpt.vocabulary, HEAD_PIECES);
        let (mut pieces, mut first) = (Vec::new(), 0);
        for rows in &splits {
            let cut = (splits.len() > 1).then_some([first, first + rows]);
            let reference = mpt.table("head").with_rows(cut);
            let weight = self.weight("head", &reference, &[*rows, mpt.width, 1, 1])?;
            let piece = self.builder.conv1x1(x, weight, None)?;
            pieces.push(self.rows(piece)?);
            first += rows;
        }
        let builder = &mut self.builder;
        if !argmax {
            for (place, piece) in pieces.iter().enumerate() {
                builder.name_value(*piece, &format!("logits{}", place + 1))?;
            }
            return Ok(pieces);
        }
        let (mut indices, mut values) = (Vec::new(), Vec::new());
        for piece in pieces {
            let index = builder.reduce_argmax(piece, -1, false)?;
            indices.push(builder.squeeze(index, &[0])?);
            let value = builder.reduce_max(piece, &[-1], false)?;
            values.push(builder.squeeze(value, &[0])?);
        }
        let outputs = [builder.concat(&indices, 0)?, builder.concat(&values, 0)?];
        builder.name_value(outputs[0], "argmax_idx")?;
        builder.name_value(outputs[1], "argmax_val")?;
        Ok(outputs.to_vec())
    }
}
