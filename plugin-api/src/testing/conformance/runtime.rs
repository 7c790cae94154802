//! A runtime, tried out on a package.

use std::path::Path;

use super::folder::{Folder, damaged};
use super::{Component, Made, Trial, must, refused};
use crate::data::{FunctionSignature, ValueInfo};
use crate::{DType, Host, MemorySink, Result, Runtime, Session, Tensor, codes};

pub(super) struct Package<'a> {
    made: Component<'a>,
    package: &'a Path,
}

impl<'a> Package<'a> {
    pub(super) fn new(made: Component<'a>, package: &'a Path) -> Self {
        Self { made, package }
    }

    #[track_caller]
    fn runtime(&self) -> Box<dyn Runtime> {
        let Component { plugin, id, options } = self.made;
        must(id, plugin.runtime(id, options))
    }

    /// Whether it can run here.
    pub(super) fn is_available(&self) -> Result<bool> {
        Ok(self.runtime().check()?.available)
    }

    fn open(&self, package: &Path, host: &Host) -> Result<Box<dyn Session>> {
        self.runtime().open(package, host)
    }
}

/// Small numbers for an input, of the first of its shapes.
#[track_caller]
fn input(port: &ValueInfo) -> Tensor {
    let shape = port.shapes.first().cloned().unwrap_or_default();
    let count = shape.iter().product::<u64>() as usize;
    let bytes: Vec<u8> = match port.dtype {
        // 1, 1.25, 1.5, 1.75, and on from 1.
        DType::FLOAT16 => (0..count).flat_map(|at| [0, 0x3c + at as u8 % 4]).collect(),
        DType::FLOAT32 => {
            (0..count).flat_map(|at| (1.0 + (at % 4) as f32 / 4.0).to_le_bytes()).collect()
        }
        DType::INT32 => (0..count).flat_map(|_| 0_i32.to_le_bytes()).collect(),
        other => panic!("the input `{}` is {other}, of which no test values are known", port.name),
    };
    must(&port.name, Tensor::new(port.name.clone(), port.dtype, shape, bytes))
}

fn run(
    session: &mut dyn Session,
    function: &str,
    inputs: &[Tensor],
    taps: &[&str],
) -> Result<Vec<Tensor>> {
    let views = inputs.iter().map(Tensor::view).collect::<Result<Vec<_>>>()?;
    let mut sink = MemorySink::new();
    session.run(function, &views, taps, &mut sink)?;
    let mut tensors = sink.into_tensors()?;
    tensors.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(tensors)
}

#[track_caller]
fn inputs(function: &FunctionSignature) -> Vec<Tensor> {
    function.inputs.iter().map(input).collect()
}

impl Trial for Package<'_> {
    fn work(&self, host: &Host) -> Result<Made> {
        let mut session = self.open(self.package, host)?;
        let description = session.describe();
        let mut made = vec![("the description".to_owned(), super::json(&description))];
        for function in &description.functions {
            session.reset()?;
            let tensors = run(&mut *session, &function.name, &inputs(function), &[])?;
            let mut outputs: Vec<&str> =
                function.outputs.iter().map(|output| output.name.as_str()).collect();
            outputs.sort_unstable();
            let names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
            assert_eq!(names, outputs, "the outputs of `{}`", function.name);
            session.reset()?;
            let again = run(&mut *session, &function.name, &inputs(function), &[])?;
            assert!(tensors == again, "`{}` gives something else after a reset", function.name);
            let name = |tensor: &Tensor| format!("{}: {}", function.name, tensor.name);
            made.extend(tensors.into_iter().map(|tensor| (name(&tensor), tensor.bytes)));
        }
        Ok(made)
    }

    fn check_unknown(&self) {
        let none = Folder::new().path().join("none.mlpackage");
        refused("a package that is not there", self.open(&none, &Host::quiet()));
        refused("an empty folder", self.open(Folder::new().path(), &Host::quiet()));
        let mut session = must("the package", self.open(self.package, &Host::quiet()));
        let error = refused("a function", run(&mut *session, "no such function", &[], &[]));
        assert_eq!(error.code, codes::FUNCTION_UNKNOWN, "{error}");
        for function in session.describe().functions {
            let all = inputs(&function);
            let error =
                refused("a value", run(&mut *session, &function.name, &all, &["no such value"]));
            assert_eq!(error.code, codes::VALUE_UNKNOWN, "{error}");
            let mut check = |what: &str, inputs: &[Tensor]| {
                let error = refused(what, run(&mut *session, &function.name, inputs, &[]));
                assert_eq!(error.code, codes::INPUT_INVALID, "{what}: {error}");
            };
            for place in 0..all.len() {
                let name = &all[place].name;
                let with = |change: &dyn Fn(&mut Tensor)| {
                    let mut changed = all.clone();
                    change(&mut changed[place]);
                    changed
                };
                let mut without = all.clone();
                without.remove(place);
                check(&format!("no `{name}`"), &without);
                check("another name", &with(&|tensor| tensor.name = "no such input".to_owned()));
                let longer = with(&|tensor| {
                    tensor.shape.push(2);
                    tensor.bytes = tensor.bytes.repeat(2);
                });
                check(&format!("`{name}` of another shape"), &longer);
                let other = with(&|tensor| {
                    tensor.dtype = DType::UINT8;
                    tensor.bytes = vec![0; tensor.shape.iter().product::<u64>() as usize];
                });
                check(&format!("`{name}` in uint8"), &other);
            }
        }
    }

    fn check_damaged(&self) {
        damaged(self.package, |what, package| {
            // What is read only when it is needed is found out by then.
            let outcome = self.open(package, &Host::quiet()).and_then(|mut session| {
                for function in session.describe().functions {
                    run(&mut *session, &function.name, &inputs(&function), &[])?;
                }
                Ok(())
            });
            refused(what, outcome);
        });
    }
}
