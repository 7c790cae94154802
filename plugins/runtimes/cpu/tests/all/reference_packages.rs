//! Packages that other tools wrote must run: every function, every allowed shape, finite results of
//! the described shape and type.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use crate::common::{find, floats, generated, open, open_threaded, packages, run, shared};

fn run_all(folder: &str) {
    let Some(folder) = shared(folder) else {
        println!("skipped: no {folder}");
        return;
    };
    let packages = packages(&folder);
    assert!(!packages.is_empty(), "no packages in {}", folder.display());
    for path in packages {
        let mut session = open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let description = session.describe();
        for function in &description.functions {
            let variants =
                function.inputs.iter().map(|input| input.shapes.len()).max().unwrap_or(1).max(1);
            for variant in 0..variants {
                let inputs = generated(&description, &function.name, variant, 0);
                let outputs = run(&mut *session, &function.name, &inputs, &[])
                    .unwrap_or_else(|error| panic!("{}: {error} {error:?}", path.display()));
                assert_eq!(outputs.len(), function.outputs.len());
                for output in &function.outputs {
                    let tensor = find(&outputs, &output.name);
                    assert_eq!(tensor.dtype, output.dtype);
                    if variant == 0
                        && let Some(shape) = output.shapes.first()
                    {
                        assert_eq!(&tensor.shape, shape, "{} {}", path.display(), output.name);
                    }
                    if output.dtype.name().starts_with("float") {
                        let finite = floats(tensor).iter().all(|value| value.is_finite());
                        assert!(finite, "{} {}", path.display(), output.name);
                    }
                }
            }
        }
    }
}

#[test]
fn packages_of_language_models_run() {
    run_all("reference/anemll-packages");
}

#[test]
fn other_packages_run() {
    run_all("mlmodelc-pairs");
}

#[test]
fn threads_do_not_change_a_bit() {
    let inner = "reference/anemll-packages/tiny-qwen3-c1/qwen_FFN_PF_chunk_01of01.mlpackage";
    let Some(path) = shared(inner) else {
        println!("skipped: no {inner}");
        return;
    };
    let results = [1, 2, 5].map(|threads| {
        let mut session = open_threaded(&path, threads).unwrap();
        let description = session.describe();
        let prefill = generated(&description, "prefill", 0, 0);
        let first = run(&mut *session, "prefill", &prefill, &[]).unwrap();
        let infer = generated(&description, "infer", 0, 64);
        (first, run(&mut *session, "infer", &infer, &[]).unwrap())
    });
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
}
