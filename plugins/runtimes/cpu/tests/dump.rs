mod common;
use common::*;
#[test]
fn dump() {
    for folder in ["reference/anemll-packages", "mlmodelc-pairs"] {
        let root = shared(folder).unwrap();
        for path in packages(&root) {
            let mut session = open(&path).unwrap();
            let description = session.describe();
            for function in &description.functions {
                session.reset().unwrap();
                let step = if function.inputs.iter().any(|i| i.name == "position_ids" && i.shapes[0] == [64]) { 64 } else { 1 };
                for round in 0..3 {
                    let inputs = generated(&description, &function.name, 0, round * step);
                    let outputs = run(&mut *session, &function.name, &inputs, &[]).unwrap();
                    for o in outputs {
                        let name = format!("{}__{}__{}__{}", path.strip_prefix(&root).unwrap().display().to_string().replace('/', "+"), function.name, round, o.name);
                        std::fs::create_dir_all("/tmp/dump").unwrap();
                        let values: Vec<u8> = if o.dtype.name().starts_with("float") { floats(&o).iter().flat_map(|v| v.to_le_bytes()).collect() } else { o.bytes.clone() };
                        std::fs::write(format!("/tmp/dump/{name}"), values).unwrap();
                    }
                }
            }
        }
    }
}
