//! The gated delta rule: what heads read from their matrices, and what becomes of these.
//!
//! For each token, with its decay `a`, its unit key `k`, its value `v` and `b` from 0 to 1, a head's
//! matrix `S` becomes `a S + b k (v - k a S)`, and its query reads `q S`. For a batch, the tokens' own
//! parts are found together: what a token replaces depends on what those before it wrote, which is a
//! triangular system. Its inverse is made from those of smaller blocks; their elements stay near 1,
//! where powers of the system would not.

use anemll_mil::{FunctionBuilder, Result, Var};
use half::f16;

use crate::graph::{Graph, int32};

/// Constants of a batch of tokens, (1, 1, T, T) each.
pub(crate) struct Triangles {
    /// 1 where the column is the row or before it.
    until: Var,
    /// 1 where the row is after the column.
    after: Var,
    /// 1 on the diagonal.
    identity: Var,
    /// For blocks of 1, 2, 4, … tokens: 1 in the lower left one of each two by two of them.
    blocks: Vec<Var>,
}

/// What a layer has for each token and value head.
#[derive(Clone, Copy)]
pub(crate) struct Tokens {
    /// Unit queries, (1, heads, T, key width).
    pub(crate) queries: Var,
    /// Unit keys, (1, heads, T, key width).
    pub(crate) keys: Var,
    /// Values, (1, heads, T, value width).
    pub(crate) values: Var,
    /// Logarithms of the decays, none above 0 or far below, (1, heads, 1, T).
    pub(crate) decays: Var,
    /// How far values replace what is there, (1, heads, T, 1).
    pub(crate) beta: Var,
}

impl Triangles {
    /// The constants, where a function takes more than one token.
    pub(crate) fn new(graph: &mut Graph<'_>) -> Result<Option<Self>> {
        if graph.tokens == 1 {
            return Ok(None);
        }
        let mut blocks = Vec::new();
        let mut size = 1;
        while size < graph.tokens {
            let lower_left = |row: u64, column: u64| {
                row / (2 * size) == column / (2 * size)
                    && row % (2 * size) >= size
                    && column % (2 * size) < size
            };
            blocks.push(table(graph, &format!("blocks_of_{size}"), lower_left)?);
            size *= 2;
        }
        Ok(Some(Self {
            until: table(graph, "until", |row, column| column <= row)?,
            after: table(graph, "after", |row, column| row > column)?,
            identity: table(graph, "identity", |row, column| row == column)?,
            blocks,
        }))
    }
}

/// A table that is 1 where the row and the column suit.
fn table(graph: &mut Graph<'_>, name: &str, suits: impl Fn(u64, u64) -> bool) -> Result<Var> {
    let tokens = graph.tokens;
    let places = (0..tokens).flat_map(|row| (0..tokens).map(move |column| (row, column)));
    let value = |(row, column)| if suits(row, column) { f16::ONE } else { f16::ZERO };
    let values: Vec<f16> = places.map(value).collect();
    let name = format!("model_model_delta_{name}");
    graph.builder.table_f16(&name, &[1, 1, tokens, tokens], &values)
}

/// What the queries read, (1, heads, T, value width), and the matrices after the last token, of those
/// before the first, (1, heads, key width, value width).
pub(crate) fn delta_rule(
    graph: &mut Graph<'_>,
    triangles: Option<&Triangles>,
    tokens: Tokens,
    matrices: Var,
) -> Result<(Var, Var)> {
    match triangles {
        None => of_one(graph, tokens, matrices),
        Some(triangles) => of_batch(graph, triangles, tokens, matrices),
    }
}

fn of_one(graph: &mut Graph<'_>, tokens: Tokens, matrices: Var) -> Result<(Var, Var)> {
    let Tokens { queries, keys, values, decays, beta } = tokens;
    let builder = &mut graph.builder;
    let decay = builder.exp(decays)?;
    let matrices = builder.mul(matrices, decay)?;
    let known = builder.matmul(keys, matrices, false, false)?;
    let unknown = builder.sub(values, known)?;
    let replaced = builder.mul(unknown, beta)?;
    // Where the query hardly suits its own key, the matrix with what is written would have lost it by
    // rounding, and the norm behind would make much of that.
    let earlier = builder.matmul(queries, matrices, false, false)?;
    let weight = builder.matmul(queries, keys, false, true)?;
    let own = builder.mul(replaced, weight)?;
    let read = builder.add(earlier, own)?;
    let keys = builder.transpose(keys, &[0, 1, 3, 2])?;
    let written = builder.mul(keys, replaced)?;
    let matrices = builder.add(matrices, written)?;
    Ok((read, matrices))
}

fn of_batch(
    graph: &mut Graph<'_>,
    triangles: &Triangles,
    tokens: Tokens,
    matrices: Var,
) -> Result<(Var, Var)> {
    let Tokens { queries, keys, values, decays, beta } = tokens;
    let decay = Decay::new(graph, triangles, decays)?;
    let builder = &mut graph.builder;
    // What each token finds of what those before it wrote.
    let alike = builder.matmul(keys, keys, false, true)?;
    let alike = builder.mul(alike, decay.between)?;
    let system = builder.mul(alike, beta)?;
    let inverse = inverse(graph, triangles, system)?;

    let builder = &mut graph.builder;
    let known = builder.matmul(keys, matrices, false, false)?;
    let known = builder.mul(known, decay.until)?;
    let unknown = builder.sub(values, known)?;
    let replaced = builder.mul(unknown, beta)?;
    let written = builder.matmul(inverse, replaced, false, false)?;

    let earlier = builder.matmul(queries, matrices, false, false)?;
    let earlier = builder.mul(earlier, decay.until)?;
    let weights = builder.matmul(queries, keys, false, true)?;
    let weights = builder.mul(weights, decay.between)?;
    let own = builder.matmul(weights, written, false, false)?;
    let read = builder.add(earlier, own)?;

    let keys = builder.mul(keys, decay.after)?;
    let added = builder.matmul(keys, written, true, false)?;
    let kept = builder.mul(matrices, decay.whole)?;
    let matrices = builder.add(kept, added)?;
    Ok((read, matrices))
}

/// How much is left after a time, for each head.
struct Decay {
    /// At the row's token of what was there after the column's, 0 before it: (1, heads, T, T).
    between: Var,
    /// At each token of what was there before the first: (1, heads, T, 1).
    until: Var,
    /// After the last token of what each wrote: (1, heads, T, 1).
    after: Var,
    /// After the last token of what was there before the first: (1, heads, 1, 1).
    whole: Var,
}

impl Decay {
    /// Each logarithm is summed on its own: differences of sums from the first token on would lose
    /// the small ones.
    fn new(graph: &mut Graph<'_>, triangles: &Triangles, decays: Var) -> Result<Self> {
        let tokens = int32(graph.tokens)?;
        let builder = &mut graph.builder;
        let seen = builder.mul(triangles.until, decays)?;
        let sums = builder.matmul(seen, triangles.after, false, false)?;
        let between = builder.exp(sums)?;
        let between = builder.mul(between, triangles.until)?;
        let sums = builder.reduce_sum(seen, &[-1], true)?;
        let until = builder.exp(sums)?;
        let last = |builder: &mut FunctionBuilder, x, columns| {
            let whole = [true, true, false, true];
            let (begin, end) = ([0, 0, tokens - 1, 0], [0, 0, tokens, columns]);
            builder.slice_by_index(x, &begin, &end, &whole, &[true; 4])
        };
        let after = last(builder, between, tokens)?;
        let after = builder.transpose(after, &[0, 1, 3, 2])?;
        let whole = last(builder, until, 1)?;
        Ok(Self { between, until, after, whole })
    }
}

/// The inverse of the identity and what is below the diagonal of a system, (1, heads, T, T).
///
/// Of `[[A, 0], [C, B]]` it is `[[A', 0], [-B' C A', B']]`: from the inverses of blocks, those of all
/// blocks twice as large come by two products.
fn inverse(graph: &mut Graph<'_>, triangles: &Triangles, system: Var) -> Result<Var> {
    let builder = &mut graph.builder;
    let mut inverse = None;
    for block in &triangles.blocks {
        let corner = builder.mul(system, *block)?;
        inverse = Some(match inverse {
            // Blocks of one token are 1.
            None => builder.sub(triangles.identity, corner)?,
            Some(inverse) => {
                let product = builder.matmul(corner, inverse, false, false)?;
                let product = builder.matmul(inverse, product, false, false)?;
                builder.sub(inverse, product)?
            }
        });
    }
    Ok(inverse.unwrap_or(triangles.identity))
}
