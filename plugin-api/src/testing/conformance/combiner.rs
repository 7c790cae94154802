//! A combiner, tried out on models of a few layers and on functions from a folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::folder::{files, read};
use super::{Component, Made, Trial, calm, must, refused};
use crate::data::{
    CombineOptions, Layout, LayoutRequest, ModelDescription, NamedFunction, StateInfo,
};
use crate::{Combiner, Host, Result};

pub(super) struct Functions<'a> {
    made: Component<'a>,
    /// Functions by name; none where there is no folder of them.
    functions: Vec<(String, Vec<u8>)>,
}

impl<'a> Functions<'a> {
    #[track_caller]
    pub(super) fn new(made: Component<'a>, folder: Option<&Path>) -> Self {
        let mut functions = Vec::new();
        if let Some(folder) = folder {
            for (name, _) in files(folder) {
                if let Some(stem) = name.strip_suffix(".mlmodel") {
                    let path: PathBuf = folder.join(&name);
                    functions.push((stem.to_owned(), read(&path)));
                }
            }
            assert!(!functions.is_empty(), "{} has no .mlmodel files", folder.display());
        }
        Self { made, functions }
    }

    #[track_caller]
    fn combiner(&self) -> Box<dyn Combiner> {
        let Component { plugin, id, options } = self.made;
        must(id, plugin.combiner(id, options))
    }

    fn combine(&self, functions: &[(String, Vec<u8>)], host: &Host) -> Result<Vec<u8>> {
        let named: Vec<NamedFunction<'_>> =
            functions.iter().map(|(name, model)| NamedFunction::new(name, model)).collect();
        let default = functions.first().map_or("", |(name, _)| name.as_str());
        let options = CombineOptions::new(default).with_short_description("joined");
        self.combiner().combine(&named, &options, host)
    }
}

fn model(layers: u32) -> ModelDescription {
    ModelDescription::default()
        .with_architecture("ReferenceForCausalLM")
        .with_model_type("reference")
        .with_default_prefix("reference")
        .with_layers(layers)
        .with_hidden_size(16)
        .with_vocabulary_size(48)
        .with_attention_heads(2)
        .with_key_value_heads(1)
        .with_head_dimension(8)
        .with_max_position_embeddings(64)
        .with_context(64)
        .with_batch(8)
        .with_parameters(3000)
        .with_head_splits([24, 24])
        .with_states(vec![StateInfo::new("cache", [2 * u64::from(layers), 1, 64, 8])])
}

/// Names stand once, and what is named is there.
#[track_caller]
fn check_names(layout: &Layout) {
    let mut functions = BTreeSet::new();
    for function in &layout.functions {
        assert!(functions.insert(&function.id), "the function `{}` twice", function.id);
    }
    let mut packages = BTreeSet::new();
    for package in &layout.packages {
        assert!(packages.insert(package.path()), "the package `{}` twice", package.path());
        for function in &package.functions {
            assert!(functions.contains(&function.id), "no function `{}`", function.id);
        }
    }
    let run = &layout.run;
    assert!(!run.infer.is_empty(), "no call runs the model");
    for call in run.infer.iter().chain(&run.prefill).chain(&run.evaluate) {
        assert!(packages.contains(&call.package), "no package `{}`", call.package);
    }
}

impl Trial for Functions<'_> {
    fn work(&self, host: &Host) -> Result<Made> {
        let combiner = self.combiner();
        let mut made = Vec::new();
        for layers in 1..=5 {
            let layout = combiner.layout(&model(layers), &LayoutRequest::default())?;
            check_names(&layout);
            made.push((format!("the layout of {layers} layers"), super::json(&layout)));
        }
        if !self.functions.is_empty() {
            made.push(("the joined model".to_owned(), self.combine(&self.functions, host)?));
        }
        Ok(made)
    }

    fn check_unknown(&self) {
        let combiner = self.combiner();
        let request = LayoutRequest::default();
        let _ = calm("a model without layers", combiner.layout(&model(0), &request));
        let bare = ModelDescription::default();
        let _ = calm("a model of which nothing is known", combiner.layout(&bare, &request));
        let odd = request.with_prefix("../out\u{0}".to_owned());
        let _ = calm("a prefix that leads elsewhere", combiner.layout(&model(2), &odd));
        refused("no functions", self.combine(&[], &Host::quiet()));
        if let Some(first) = self.functions.first() {
            let twice = [first.clone(), first.clone()];
            refused("two functions of one name", self.combine(&twice, &Host::quiet()));
        }
    }

    fn check_damaged(&self) {
        let text = ("text".to_owned(), b"no model".to_vec());
        refused("a text", self.combine(&[text], &Host::quiet()));
        for place in 0..self.functions.len() {
            let mut functions = self.functions.clone();
            let half = functions[place].1.len() / 2;
            functions[place].1.truncate(half);
            let what = format!("`{}` cut short", functions[place].0);
            refused(&what, self.combine(&functions, &Host::quiet()));
        }
    }

    fn can_be_stopped(&self) -> bool {
        !self.functions.is_empty()
    }
}
