//! Attention of tokens over a cache: scores, mask, softmax and the weighted sum, head by head.
//!
//! Positions behind the last one that the mask leaves are not looked at: their weights are zeros.

use super::{Chain, Graph, Pattern};
use crate::element::Element;
use crate::failure::{Outcome, invalid};
use crate::kernels::math::exp;
use crate::kernels::matmul::matrices;
use crate::kernels::rows::{maximum, sum};
use crate::kernels::{Call, Definition, Frame, Step, step};
use crate::simd;
use crate::tensor::Tensor;
use crate::walk::Walk;
use crate::workers;
use half::f16;
use smallvec::SmallVec;

pub(super) const PATTERN: Pattern =
    Pattern { last: "matmul", find, kernel: Definition::new("chain: attention", prepare) };

/// Rows of scores that are computed at once where they look at the same lines: heads that share keys and
/// values, or neighbouring tokens.
const TOGETHER: usize = 4;

/// Something of each of such rows.
type PerRow<'a> = SmallVec<[&'a [f32]; TOGETHER]>;

/// Sums of positions go through so many registers side by side: whole runs of them are left out.
const LANES: usize = 16;

/// `softmax(q k' * scale + mask) v` in single steps, of (1, heads, tokens, size) and caches of
/// (1, heads, positions, size).
fn find(graph: &Graph<'_>, last: usize) -> Option<Chain> {
    let divide = graph.before(last, "x", "real_div", 1)?;
    let power = graph.before(divide, "x", "exp", 2)?;
    let total = graph.before(divide, "y", "reduce_sum", 1)?;
    let shifted = graph.before(power, "x", "sub", 1)?;
    let masked = graph.before(shifted, "x", "add", 2)?;
    let largest = graph.before(shifted, "y", "reduce_max", 1)?;
    let scaled = graph.before(masked, "x", "mul", 1)?;
    let scores = graph.before(scaled, "x", "matmul", 1)?;
    let shape = graph.shape(scores)?;
    let [1, heads, tokens, positions] = *shape else { return None };
    let size = *graph.shape(last)?.last()?;
    let depth = *graph.argument_shape(scores, "x")?.last()?;
    let mask = graph.argument_shape(masked, "y")?;
    let reduces =
        |at: usize| graph.is_last_axis(at, "axes", 4) && graph.flag(at, "keep_dims") == Some(true);
    let transposes =
        |at: usize| Some((graph.flag(at, "transpose_x")?, graph.flag(at, "transpose_y")?));
    let suits = graph.name(total, "x") == graph.name(divide, "x")
        && graph.name(largest, "x") == graph.name(shifted, "x")
        && [divide, power, shifted, masked, scaled]
            .iter()
            .all(|at| graph.shape(*at) == Some(shape))
        && graph.argument_shape(scores, "x")? == [1, heads, tokens, depth]
        && graph.argument_shape(scores, "y")? == [1, heads, positions, depth]
        && graph.argument_shape(last, "y")? == [1, heads, positions, size]
        && (mask == [1, 1, tokens, positions] || mask == [1, 1, 1, positions])
        && reduces(total)
        && reduces(largest)
        && transposes(scores) == Some((false, true))
        && transposes(last) == Some((false, false))
        && graph.number(scaled, "y").is_some();
    if !suits {
        return None;
    }
    let arguments = [
        ("q", scores, "x"),
        ("k", scores, "y"),
        ("v", last, "y"),
        ("mask", masked, "y"),
        ("scale", scaled, "y"),
    ];
    let absorbed = [divide, power, total, shifted, masked, largest, scaled, scores];
    graph.chain(PATTERN.kernel.name, last, &arguments, &absorbed)
}

fn prepare(call: &Call<'_>) -> Outcome<Step> {
    let (q, k, v) = (call.tensor("q")?, call.tensor("k")?, call.tensor("v")?);
    let mask = call.tensor("mask")?;
    let Some(scale) = call.float("scale")? else { return invalid("argument `scale` is missing") };
    step(move |frame| {
        attend(frame, q.get(frame)?, k.get(frame)?, v.get(frame)?, mask.get(frame)?, scale)
    })
}

fn attend(
    frame: &Frame<'_>,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: &Tensor,
    scale: f32,
) -> Outcome<Tensor> {
    let ([1, heads, tokens, depth], [1, _, positions, _], [1, _, _, size]) =
        (q.shape(), k.shape(), v.shape())
    else {
        return invalid(format!(
            "heads of shapes {:?}, {:?}, {:?}",
            q.shape(),
            k.shape(),
            v.shape()
        ));
    };
    let (heads, tokens, depth, positions, size) = (*heads, *tokens, *depth, *positions, *size);
    let fits = k.shape() == [1, heads, positions, depth]
        && v.shape() == [1, heads, positions, size]
        && [tokens * positions, positions].contains(&mask.count())
        && mask.shape().last() == Some(&positions)
        && [q, k, v, mask].iter().all(|tensor| tensor.element == Element::F16);
    if !fits {
        return invalid(format!(
            "heads of shapes {:?}, {:?}, {:?} with a mask {:?}",
            q.shape(),
            k.shape(),
            v.shape(),
            mask.shape()
        ));
    }
    let (q, mask) = (q.contiguous(frame.pool)?, mask.contiguous(frame.pool)?);
    let queries: &[f16] = q.dense();
    let masks: Vec<Mask> =
        mask.dense::<f16>().chunks_exact(positions.max(1)).map(Mask::new).collect();
    let (keys, values) = (lines(frame, k)?, lines(frame, v)?);
    let mut buffer = frame.pool.take_elements(Element::F16, heads * tokens * size)?;
    let seen: usize = masks.iter().map(|mask| mask.terms.len()).max().unwrap_or(0);
    let cost = heads * tokens * seen * (depth + size + LANES);
    let output = buffer.slice_mut::<f16>();
    workers::split(frame.team, output, size.max(1), cost, |start, part| {
        let (mut query, mut sums) = (vec![0.0; TOGETHER * depth], vec![0.0; TOGETHER * size]);
        let mut scores = Vec::with_capacity(TOGETHER * positions);
        let mask = |row: usize| &masks[row % tokens % masks.len()];
        let first = start / size.max(1);
        let end = first + part.len() / size.max(1);
        let mut row = first;
        while row < end {
            let (head, seen) = (row / tokens, mask(row).terms.len());
            let is_like = |other: &usize| {
                let other_head = other / tokens;
                mask(*other).terms.len() == seen
                    && keys.starts[other_head] == keys.starts[head]
                    && values.starts[other_head] == values.starts[head]
            };
            let count = (row..end).take(TOGETHER).take_while(is_like).count();
            let query = &mut query[..count * depth];
            simd::widen(&queries[row * depth..][..count * depth], query);
            scores.resize(count * seen, 0.0);
            let vectors: PerRow<'_> = query.chunks(depth.max(1)).collect();
            keys.products(head, &vectors, &mut scores);
            for (at, scores) in scores.chunks_mut(seen.max(1)).enumerate() {
                simd::widest(|| weigh(scores, scale, &mask(row + at).terms));
            }
            let factors: PerRow<'_> = scores.chunks(seen.max(1)).collect();
            let sums = &mut sums[..count * size];
            values.sums(head, &factors, sums);
            simd::narrow(sums, &mut part[(row - first) * size..][..count * size]);
            row += count;
        }
        Ok(())
    })?;
    Ok(Tensor::owned(Element::F16, &[1, heads, tokens, size], buffer))
}

/// What is added to the scores of one token, up to the last position that is looked at.
struct Mask {
    terms: Vec<f32>,
}

impl Mask {
    fn new(row: &[f16]) -> Self {
        let last = row.iter().rposition(|term| *term != f16::NEG_INFINITY);
        // Without a position that is left all are looked at: the result is what it would be.
        let count =
            last.map_or(row.len(), |last| (last + 1).next_multiple_of(LANES).min(row.len()));
        let mut terms = vec![0.0; count];
        simd::widen(&row[..count], &mut terms);
        Self { terms }
    }
}

/// Scores to weights, rounded to float16 after each operation.
#[inline(always)]
fn weigh(scores: &mut [f32], scale: f32, mask: &[f32]) {
    simd::round(scores);
    scores.iter_mut().for_each(|score| *score *= scale);
    simd::round(scores);
    scores.iter_mut().zip(mask).for_each(|(score, term)| *score += term);
    simd::round(scores);
    let largest = maximum(scores);
    scores.iter_mut().for_each(|score| *score -= largest);
    simd::round(scores);
    scores.iter_mut().for_each(|score| *score = exp(*score));
    simd::round(scores);
    let total = f16::from_f32(sum(scores)).to_f32();
    scores.iter_mut().for_each(|score| *score /= total);
    simd::round(scores);
}

/// The lines of each head of a cache, one for each position.
struct Lines {
    cache: Tensor,
    starts: Vec<usize>,
    stride: usize,
}

fn lines(frame: &Frame<'_>, cache: &Tensor) -> Outcome<Lines> {
    let (mut cache, mut batch, mut strides) = matrices(frame, cache)?;
    let size = cache.shape()[cache.rank() - 1];
    // Elements of a line lie side by side, and a line does not lie before the one before it.
    if strides[1] != 1 && size > 1 || strides[0] < 0 {
        cache = cache.contiguous(frame.pool)?;
        (cache, batch, strides) = matrices(frame, &cache)?;
    }
    let starts = match Walk::new([&batch]) {
        Some(walk) if !batch.shape().contains(&0) => walk.starts(),
        _ => return invalid("a cache without heads"),
    };
    let starts = starts.into_iter().map(|[start]| start).collect();
    Ok(Lines { cache, starts, stride: strides[0] as usize })
}

impl Lines {
    /// The dot products of a head's first lines with some vectors, one vector's after the other's.
    fn products(&self, head: usize, vectors: &[&[f32]], output: &mut [f32]) {
        let elements = &self.cache.raw::<f16>()[self.starts[head]..];
        simd::strided_rows_times_vectors(elements, self.stride, vectors, output);
    }

    /// Sums of a head's first lines, each times its factor, one sum after the other.
    fn sums(&self, head: usize, factors: &[&[f32]], output: &mut [f32]) {
        let elements = &self.cache.raw::<f16>()[self.starts[head]..];
        simd::weighted_sums(elements, self.stride, factors, output);
    }
}
