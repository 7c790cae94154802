//! The embedding: token ids to rows of a table.

use anemll_mil::{Result, Var};

use crate::graph::Graph;
use crate::weights::Weight;

/// Rows of the embedding table: int32 ids (1, T) to float16 (1, T, hidden).
pub(crate) fn embed(graph: &mut Graph<'_>, ids: Var) -> Result<Var> {
    let table = graph.weight(Weight::Embedding)?;
    graph.builder.scope("embed_tokens");
    let indices = graph.indices(ids, graph.spec.vocabulary_size)?;
    let rows = graph.builder.gather(table, indices, 0)?;
    graph.builder.end_scope();
    Ok(rows)
}
