//! The form for phones: functions for contexts and numbers of tokens.

use super::Findings;
use super::folder::Language;
use super::ports::{Looked, Size, size, with};
use anemll_aicode::{ElementType, Function, Layout, TensorType, Type};
use anemll_layout::apple::{self, Role};
use anemll_plugin_api::data::{KEY_CACHE, VALUE_CACHE};
use std::collections::{BTreeMap, BTreeSet};

/// What apps give the table of embeddings by.
const TABLE: &str = "embedding_table";

/// The functions by what they do.
type Roles<'a> = BTreeMap<Role, &'a Function>;

/// Looks at all functions, and whether there is one wherever apps choose one.
pub(super) fn check(
    asset: &str,
    functions: &[&Function],
    language: &Language,
    found: &mut Findings,
) {
    let mut roles = Roles::new();
    for function in functions {
        let name = &function.name;
        match Role::parse(name) {
            Some(role) => {
                roles.insert(role, function);
            }
            None if name.starts_with("extend") || name.starts_with("prompt_opt") => {
                let text = format!("`{name}` does not end in a context and a number of tokens");
                found.fatal(asset, text);
            }
            None => {}
        }
    }
    check_ladder(asset, &roles, language, found);
    let table = functions.iter().find(|function| function.name == apple::LOAD_EMBEDDINGS);
    let table =
        table.and_then(|function| check_table(&mut Looked::new(asset, function, found), language));
    let mut caches = BTreeMap::new();
    for (role, function) in &roles {
        let mut looked = Looked::new(asset, function, found);
        match *role {
            Role::Gather { tokens } => check_gather(&mut looked, tokens, table.as_ref()),
            Role::Extend { context, tokens } | Role::Prompt { context, tokens } => {
                let logits = matches!(role, Role::Extend { .. });
                check_inputs(&mut looked, context, tokens, table.as_ref());
                check_caches(&mut looked, context, language, &mut caches);
                check_logits(&mut looked, tokens, language, logits);
            }
        }
    }
}

/// Apps choose by what is left of a text, so that every context needs every number of tokens.
fn check_ladder(asset: &str, roles: &Roles<'_>, language: &Language, found: &mut Findings) {
    let contexts: BTreeSet<u64> = roles.keys().filter_map(|role| role.context()).collect();
    let tokens: BTreeSet<u64> =
        roles.keys().filter(|role| role.context().is_some()).map(|role| role.tokens()).collect();
    let mut needed: Vec<Role> =
        tokens.iter().map(|tokens| Role::Gather { tokens: *tokens }).collect();
    for context in &contexts {
        for tokens in &tokens {
            let (context, tokens) = (*context, *tokens);
            needed.extend([Role::Extend { context, tokens }, Role::Prompt { context, tokens }]);
        }
    }
    for role in needed.iter().filter(|role| !roles.contains_key(role)) {
        found.fatal(asset, format!("it has no function `{}`, which apps may choose", role.name()));
    }
    if let (Some(longest), Some(said)) = (contexts.last(), language.context)
        && *longest != said
    {
        let text = format!(
            "`language.max_context_length` is {said}, but the largest context is {longest}"
        );
        found.fatal(apple::METADATA, text);
    }
    for context in &contexts {
        if let Some(other) = tokens.iter().find(|tokens| !context.is_multiple_of(**tokens)) {
            let text = format!("blocks of {other} tokens reach beyond the context of {context}");
            found.fatal(asset, text);
        }
    }
}

/// The table of embeddings: (rows, 1, width).
fn check_table(looked: &mut Looked<'_, '_>, language: &Language) -> Option<TensorType> {
    if !looked.inputs().is_empty() {
        looked.wrong("takes inputs; apps give it none");
    }
    let outputs = looked.outputs();
    let Some(Type::Tensor(table)) = with(&outputs, TABLE).map(|port| &port.kind) else {
        looked.wrong(&format!("does not give `{TABLE}`"));
        return None;
    };
    let rows = match table.shape[..] {
        [rows, 1, width] if width > 0 => u64::try_from(rows).ok(),
        _ => None,
    };
    match (rows, language.vocabulary) {
        (None, _) => looked.wrong(&format!("gives {table}; apps take (rows, 1, width)")),
        (Some(rows), Some(vocabulary)) if rows < vocabulary => {
            looked.wrong(&format!("gives {rows} rows, fewer than the vocabulary of {vocabulary}"));
        }
        _ => return Some(table.clone()),
    }
    None
}

fn check_takes_table(looked: &mut Looked<'_, '_>, table: Option<&TensorType>) {
    let inputs = looked.inputs();
    let taken = with(&inputs, TABLE).and_then(|port| port.kind.tensor());
    if let (Some(taken), Some(given)) = (taken, table)
        && taken != given
    {
        looked.wrong(&format!(
            "takes the table as {taken} or in another layout; it is given as {given}"
        ));
    }
}

fn check_gather(looked: &mut Looked<'_, '_>, tokens: u64, table: Option<&TensorType>) {
    let inputs = looked.inputs();
    match with(&inputs, "in_new_token_ids") {
        Some(port) => {
            looked.compare(port, ElementType::Int32, &[Size::Is(1), Size::Is(tokens)]);
        }
        None => looked.wrong("takes no `in_new_token_ids`"),
    }
    if with(&inputs, TABLE).is_none() {
        looked.wrong(&format!("takes no `{TABLE}`"));
    }
    check_takes_table(looked, table);
    let outputs = looked.outputs();
    let Some(rows) = with(&outputs, "out_transformer_input").or(outputs.first().copied()) else {
        return looked.wrong("gives nothing");
    };
    let width =
        table.and_then(|table| u64::try_from(table.shape[2]).ok()).map_or(Size::Any, Size::Is);
    looked.compare(
        rows,
        ElementType::Float16,
        &[Size::Is(1), Size::Is(tokens), Size::Is(1), width],
    );
}

/// Apps find inputs by parts of their names.
fn check_inputs(
    looked: &mut Looked<'_, '_>,
    context: u64,
    tokens: u64,
    table: Option<&TensorType>,
) {
    let inputs = looked.inputs();
    let width =
        table.and_then(|table| u64::try_from(table.shape[2]).ok()).map_or(Size::Any, Size::Is);
    let (one, tokens) = (Size::Is(1), Size::Is(tokens));
    let expected: [(&str, ElementType, &[Size]); 4] = [
        ("transformer_input", ElementType::Float16, &[one, tokens, one, width]),
        ("pos", ElementType::UInt16, &[one, tokens]),
        ("step", ElementType::Int32, &[one]),
        ("causal_mask", ElementType::Float16, &[one, Size::Is(context), one, tokens]),
    ];
    for (part, element, shape) in expected {
        match with(&inputs, part) {
            Some(port) => {
                looked.compare(port, element, shape);
            }
            None => looked.wrong(&format!("has no input with `{part}` in its name")),
        }
    }
    check_takes_table(looked, table);
    let known = |name: &str| expected.iter().any(|(part, ..)| name.contains(part)) || name == TABLE;
    for port in inputs {
        let name = port.name.as_deref().unwrap_or_default();
        if !known(name) {
            looked.wrong(&format!("takes `{name}`, which apps do not give"));
        }
    }
}

/// All functions work on one pair of caches; a function's context is the largest size of its own.
fn check_caches(
    looked: &mut Looked<'_, '_>,
    context: u64,
    language: &Language,
    known: &mut BTreeMap<String, (Vec<i64>, Option<Layout>)>,
) {
    let states = looked.states();
    let names: BTreeSet<&str> = states.iter().map(|(name, _)| *name).collect();
    if !names.is_empty() && names != BTreeSet::from([KEY_CACHE, VALUE_CACHE]) {
        let names: Vec<&str> = names.into_iter().collect();
        looked.wrong(&format!(
            "has the states {}; apps have `{KEY_CACHE}` and `{VALUE_CACHE}`",
            names.join(", ")
        ));
    }
    for (name, kind) in states {
        let (one, any) = (Size::Is(1), Size::Any);
        let shape = [any, one, any, one, Size::Is(context)];
        if !looked.compare_tensor(name, kind, ElementType::Float16, &shape) {
            continue;
        }
        let largest = kind.shape.iter().max().copied().unwrap_or(0);
        if u64::try_from(largest) != Ok(context) {
            looked.wrong(&format!(
                "has `{name}` as {kind}: apps would take {largest} for its context"
            ));
        }
        // All but the positions, of which a function sees as many as its context has.
        let form = (kind.shape[..4].to_vec(), kind.layout.clone());
        let first = known.entry(name.to_owned()).or_insert_with(|| form.clone());
        if *first != form {
            looked.wrong(&format!(
                "has `{name}` of other sizes, or laid out otherwise, than other functions have"
            ));
        }
        match language.states.get(name).map(String::as_str) {
            None | Some("kv_cache") => {}
            Some(other) => looked
                .wrong(&format!("keeps keys or values in `{name}`, which is said to be {other}")),
        }
    }
}

fn check_logits(looked: &mut Looked<'_, '_>, tokens: u64, language: &Language, logits: bool) {
    let outputs = looked.outputs();
    let Some(port) = with(&outputs, "out_logits") else {
        return looked.wrong("gives no `out_logits`");
    };
    if !logits {
        return;
    }
    let vocabulary = language.vocabulary.map_or(Size::Any, Size::Is);
    let rank = port.kind.tensor().map_or(0, |kind| kind.shape.len());
    let mut shape = vec![Size::Is(1); rank.saturating_sub(2)];
    shape.extend([Size::Is(tokens), vocabulary]);
    // Apps read tokens times vocabulary numbers, one row after another.
    if rank < 2 || size(port, rank - 1).is_none() {
        return looked.wrong("gives `out_logits` of sizes that are not known");
    }
    looked.compare(port, ElementType::Float16, &shape);
}
