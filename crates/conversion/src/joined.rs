//! All that ships as one model, for compilers that make one of several packages: the names that it gets.

use crate::description::{Description, shipped};
use anemll_layout::MAIN;
use anemll_plugin_api::data::{Joined, Layout, PackageSpec, RunOrder, RunStep};
use std::collections::BTreeSet;

/// The name where packages have nothing in common that could be one.
const NAMELESS: &str = "model";

/// A function that is called, with the name that it would have where it is free.
type Wanted = (RunStep, String);

/// That of a layout: functions have their ids. Nothing where one package ships, which is a whole already.
pub fn joined(layout: &Layout) -> Option<Joined> {
    let packages: Vec<&PackageSpec> = shipped(layout).collect();
    if packages.len() < 2 {
        return None;
    }
    let id = |step: &RunStep| {
        let package = packages.iter().find(|package| package.path() == step.package)?;
        let function = package.functions.iter().find(|one| one.name == step.function)?;
        Some(function.id.clone())
    };
    let all = packages
        .iter()
        .flat_map(|package| package.functions.iter().map(|function| package.call(&function.name)));
    let wanted = in_order(&layout.run, all).into_iter();
    let wanted = wanted.filter_map(|step| id(&step).map(|id| (step, id)));
    Some(named(&layout.prefix, wanted.collect()))
}

impl Description {
    /// All that ships as one model: as the conversion says it, or, of one that does not, with names made of those
    /// of the packages. Nothing where one package ships, which is a whole already.
    pub fn as_one(&self) -> Option<Joined> {
        let ships: Vec<_> = self.packages.iter().filter(|package| package.ships).collect();
        if ships.len() < 2 {
            return None;
        }
        if let Some(joined) = &self.joined {
            return Some(joined.clone());
        }
        let stems: Vec<&str> = ships.iter().map(|package| stem(&package.path)).collect();
        let prefix = common(&stems);
        let all = ships.iter().flat_map(|package| {
            package.functions.iter().map(|one| RunStep::new(&package.path, &one.name))
        });
        let wanted = in_order(&self.run, all).into_iter().map(|step| {
            let own = stem(&step.package);
            let own = own[prefix.len()..].trim_start_matches('_');
            let name = match step.function.as_str() {
                MAIN => own.to_owned(),
                function => format!("{own}_{function}"),
            };
            (step, name)
        });
        Some(named(prefix.trim_end_matches('_'), wanted.collect()))
    }
}

/// Functions in the order of their first call, then those that are not called.
fn in_order(run: &RunOrder, all: impl Iterator<Item = RunStep>) -> Vec<RunStep> {
    let all: Vec<RunStep> = all.collect();
    let called = run.infer.iter().chain(&run.prefill).chain(&run.verify).chain(&run.embed);
    let called = called.filter(|step| all.contains(step)).cloned();
    let mut found: Vec<RunStep> = Vec::new();
    for step in called.chain(all.iter().cloned()) {
        if !found.contains(&step) {
            found.push(step);
        }
    }
    found
}

/// The functions under names that are identifiers everywhere, and there once on systems that tell no capitals apart
/// too: a number is added to the name of one that is taken.
fn named(prefix: &str, wanted: Vec<Wanted>) -> Joined {
    let legal = |text: &str| -> String {
        let one = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
        text.chars().map(one).collect()
    };
    let mut taken = BTreeSet::new();
    let joined = Joined::new(if prefix.is_empty() { NAMELESS } else { prefix });
    wanted.into_iter().fold(joined, |joined, (step, name)| {
        let plain = legal(&name);
        let numbered = (2..).map(|number| format!("{plain}_{number}"));
        let mut names = std::iter::once(plain.clone()).chain(numbered);
        let free = names.find(|name| !name.is_empty() && taken.insert(name.to_lowercase()));
        joined.with_function(free.unwrap_or(plain), step.package, step.function)
    })
}

/// The last part of a package's path.
fn stem(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// What all texts begin with.
fn common<'a>(texts: &[&'a str]) -> &'a str {
    let Some((first, others)) = texts.split_first() else { return "" };
    let same = |other: &&str| {
        let pairs = first.char_indices().zip(other.chars());
        let end = pairs.take_while(|((_, a), b)| a == b).last();
        end.map_or(0, |((place, letter), _)| place + letter.len_utf8())
    };
    let length = others.iter().map(same).min().unwrap_or(first.len());
    // Up to the last `_` of it: `llama_FFN` and `llama_FEN` have `llama_` in common.
    let whole = first[..length].rfind('_').map_or(0, |place| place + 1);
    &first[..whole]
}

#[cfg(test)]
mod tests {
    use super::*;
    use anemll_plugin_api::data::{PackageKind, RunOrder};

    fn names(joined: &Joined) -> Vec<(&str, &str, &str)> {
        let functions = joined.functions.iter();
        functions.map(|one| (&*one.name, &*one.package, &*one.function)).collect()
    }

    fn package(stem: &str, functions: &[(&str, &str)]) -> PackageSpec {
        let package = PackageSpec::new(stem, PackageKind::Combined, 1, stem);
        functions.iter().fold(package, |package, (id, name)| package.with_function(*id, *name))
    }

    #[test]
    fn functions_of_a_layout_have_their_ids_in_the_order_of_the_calls() {
        let packages = vec![
            package("p_embeddings", &[("embeddings", "main")]),
            package("p_head", &[("lm_head", "main")]),
            package(
                "p_FFN",
                &[("infer.01", "infer"), ("prefill.01", "prefill"), ("infer 01", "x")],
            ),
        ];
        let call = |package: &str, function: &str| RunStep::new(package, function);
        let run = RunOrder::default()
            .with_infer(vec![
                call("p_embeddings", "main"),
                call("p_FFN", "infer"),
                call("p_head", "main"),
            ])
            .with_prefill(vec![call("p_embeddings", "main"), call("p_FFN", "prefill")]);
        let layout = Layout::new("c", "p").with_packages(packages).with_run(run);
        let joined = joined(&layout).unwrap();
        assert_eq!(joined.name, "p");
        let expected = [
            ("embeddings", "p_embeddings", "main"),
            ("infer_01", "p_FFN", "infer"),
            ("lm_head", "p_head", "main"),
            ("prefill_01", "p_FFN", "prefill"),
            ("infer_01_2", "p_FFN", "x"),
        ];
        assert_eq!(names(&joined), expected);
        let one = vec![package("p", &[("infer", "infer")])];
        assert!(super::joined(&Layout::new("c", "p").with_packages(one)).is_none());
    }

    #[test]
    fn without_ids_names_are_made_of_those_of_the_packages() {
        let call = |package: &str, function: &str| RunStep::new(package, function);
        let run = |packages: [&str; 3]| {
            RunOrder::default()
                .with_infer(vec![
                    call(packages[0], "main"),
                    call(packages[1], "infer"),
                    call(packages[2], "main"),
                ])
                .with_prefill(vec![call(packages[1], "prefill")])
        };
        let stems = ["llama_embeddings", "llama_FFN_PF_chunk_01of01", "llama_lm_head"];
        let joined = Description::of_run(run(stems)).as_one().unwrap();
        let made: Vec<&str> = names(&joined).iter().map(|(name, ..)| *name).collect();
        let expected =
            ["embeddings", "FFN_PF_chunk_01of01_infer", "lm_head", "FFN_PF_chunk_01of01_prefill"];
        assert_eq!((joined.name.as_str(), made.as_slice()), ("llama", &expected[..]));
        let joined = Description::of_run(run(["Ä", "ä", "x/é"])).as_one().unwrap();
        assert_eq!(joined.name, NAMELESS);
        assert_eq!(names(&joined)[3], ("__prefill", "ä", "prefill"));
    }
}
