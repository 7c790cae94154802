//! What a function gives, as Apple's apps take it.

use super::{Lowered, Lowering};
use anemll_aicode::Value;
use anemll_layout::anemll;
use anemll_layout::apple::Role;

impl<'a> Lowering<'a, '_> {
    /// The outputs of a function as apps take them, of values by their names in the package.
    pub(super) fn outputs_for_apps(
        &mut self,
        role: Role,
        names: &'a [String],
    ) -> Lowered<Vec<(String, Value)>> {
        let tokens = i64::try_from(role.tokens()).unwrap_or(i64::MAX);
        Ok(match role {
            Role::Gather { .. } => {
                let [name] = names else { return Err("it gives more than embeddings".into()) };
                let rows = self.named(name)?;
                let width = self.builder().shape(rows).last().copied().unwrap_or(1);
                let rows = self.builder().reshape(rows, &[1, tokens, 1, width]);
                vec![("out_transformer_input".to_owned(), rows)]
            }
            Role::Extend { .. } => {
                let pieces = anemll::logits(names.iter().map(String::as_str));
                if pieces.is_empty() || pieces.len() != names.len() {
                    return Err("it gives something other than logits".into());
                }
                let of = |piece: &String| names.iter().find(|name| *name == piece);
                let pieces = pieces.iter().filter_map(of).map(|name| self.named(name));
                let pieces = pieces.collect::<Lowered<Vec<_>>>()?;
                let builder = self.builder();
                let last = builder.shape(pieces[0]).len() - 1;
                let logits = builder.concat(&pieces, last);
                let vocabulary = builder.shape(logits)[last];
                let logits = builder.reshape(logits, &[1, 1, tokens, vocabulary]);
                vec![("out_logits".to_owned(), logits)]
            }
            // No one reads it: one element of each cache, so that nothing but the caches has to be computed.
            Role::Prompt { .. } => vec![("out_logits".to_owned(), self.one_of_states()?)],
        })
    }
}
