//! Whether what a recurrent state holds counts.

use anemll_mil::{Result, Var};

use crate::graph::Graph;

/// 0 where the function's first token is the first of all, else 1: (1, 1, 1, 1).
///
/// Before the first token there is nothing, whatever an earlier text has left: the state need not be
/// emptied. The first row of the causal mask, (1, 1, T, C), hides the second column exactly where its
/// token is the first, so no position has to be compared, which the Neural Engine would not do.
pub(crate) fn counts(graph: &mut Graph<'_>, mask: Var) -> Result<Var> {
    graph.builder.scope("first_token");
    let counts = if graph.spec.context == 1 {
        graph.builder.scalar_f16(0.0)?
    } else {
        let second = graph.builder.slice_by_index(mask, &[0, 0, 0, 1], &[1, 1, 1, 2], &[], &[])?;
        graph.builder.exp(second)?
    };
    graph.builder.end_scope();
    Ok(counts)
}
