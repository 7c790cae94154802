//! Whether the parts of a conversion belong together: one model, one context.

use crate::error::{Error, Result};
use crate::metadata;
use crate::rewrite::Member;
use anemll_layout::anemll;
use anemll_mil::{FunctionInterface, interface};
use std::collections::BTreeMap;

/// Asks that the functions are parts of one conversion, as `infer` and `prefill` of a chunk are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartsCheck {
    /// What the parts must say under `com.anemll.KEY`, if they say anything: key and value.
    pub expected: BTreeMap<String, String>,
}

/// Checks metadata, inputs and states of the members against the first one.
pub(crate) fn check(members: &[Member], wanted: &PartsCheck) -> Result<()> {
    for member in members {
        let said = metadata::of(&member.model).user_defined;
        for (key, value) in &wanted.expected {
            if let Some(found) = said.get(&format!("{}{key}", anemll::KEYS))
                && found != value
            {
                return Err(Error::combine(format!(
                    "the part says {key} {found}, but {value} is asked for"
                ))
                .at(&member.path)
                .hint("name the parts as they were made, or make them again"));
            }
        }
    }
    let Some((first, others)) = members.split_first() else { return Ok(()) };
    let said = metadata::of(&first.model).user_defined;
    let ports = port_lists(first)?;
    for member in others {
        let differs = |what: String| {
            Error::combine(format!(
                "`{}` and `{}` are not parts of one conversion: {what}",
                first.name, member.name
            ))
            .at(&member.path)
            .hint("convert both parts again from one model with the same options")
        };
        let others_said = metadata::of(&member.model).user_defined;
        for key in anemll::SHARED {
            if let (Some(mine), Some(theirs)) = (said.get(key), others_said.get(key))
                && mine != theirs
            {
                let mut what = format!("{key} is {mine} in one, {theirs} in the other");
                if key == anemll::SOURCE {
                    what = "they were made from different models".to_owned();
                }
                return Err(differs(what));
            }
        }
        compare_ports(&ports, &port_lists(member)?, &first.name, &member.name).map_err(differs)?;
    }
    Ok(())
}

fn port_lists(member: &Member) -> Result<FunctionInterface> {
    let lists = interface(&member.model).map_err(|error| Error::Invalid {
        message: error.to_string(),
        at: Some(member.path.clone()),
    })?;
    lists
        .into_iter()
        .next()
        .ok_or_else(|| Error::combine("the package has no function").at(&member.path))
}

/// States are equal; inputs have equal names and sizes, but for the number of tokens.
fn compare_ports(
    left: &FunctionInterface,
    right: &FunctionInterface,
    left_name: &str,
    right_name: &str,
) -> Result<(), String> {
    for (kind, mine, theirs) in
        [("state", &left.states, &right.states), ("input", &left.inputs, &right.inputs)]
    {
        for (list, other, owner, lacking) in
            [(mine, theirs, left_name, right_name), (theirs, mine, right_name, left_name)]
        {
            if let Some(port) = list.iter().find(|port| other.iter().all(|o| o.name != port.name)) {
                return Err(format!("{kind} `{}` of `{owner}` is not in `{lacking}`", port.name));
            }
        }
        for port in mine {
            let Some(other) = theirs.iter().find(|other| other.name == port.name) else { continue };
            let (Some(here), Some(there)) = (port.shapes.first(), other.shapes.first()) else {
                continue;
            };
            // The number of tokens may differ, and is 1 in one of them.
            let agree = here.len() == there.len()
                && here
                    .iter()
                    .zip(there)
                    .all(|(a, b)| a == b || (kind == "input" && (*a == 1 || *b == 1)));
            if port.data_type != other.data_type || !agree {
                let mut what = format!(
                    "{kind} `{}` is {} {here:?} in `{left_name}`, but {} {there:?} in `{right_name}`",
                    port.name, port.data_type, other.data_type
                );
                if let (true, Some(a), Some(b)) =
                    (port.name == anemll::INPUT_MASK, here.last(), there.last())
                {
                    what += &format!(" (context {a} and {b})");
                }
                return Err(what);
            }
        }
    }
    Ok(())
}
