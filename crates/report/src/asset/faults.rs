//! What loaders would not like of an asset.

use anemll_aicode::asset::{Asset, HASH, METADATA};
use anemll_aicode::verify;
use anemll_terminal::{BAD, Cell, Column, DOUBTFUL, Table, plain};
use serde::Serialize;

/// Something that is wrong.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Whether the asset does not load with it; else a device may take it, or not.
    pub fatal: bool,
    /// The file that is concerned.
    pub file: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// What is wrong with an asset that can be read.
pub fn faults(asset: &Asset) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut add = |fatal: bool, file: &str, message: String| {
        found.push(Fault { fatal, file: file.to_owned(), message });
    };
    if let Err(error) = verify(&asset.program) {
        let hint = "the program would not load; compile the package again";
        add(true, anemll_aicode::asset::PROGRAM, format!("{error}: {hint}"));
    }
    let hint = "a device may keep what it made of another program of this hash";
    match asset.hash_fits() {
        Ok(Some(true)) => {}
        Ok(Some(false)) => add(false, HASH, format!("it is not the program's: {hint}")),
        Ok(None) => add(false, HASH, "it is missing; Apple's writer always gives one".to_owned()),
        Err(error) => add(false, HASH, format!("it cannot be compared: {error}")),
    }
    if asset.metadata.is_empty() {
        add(false, METADATA, "it is missing: nothing says which version the asset has".to_owned());
    } else if !asset.metadata.contains_key("producer") {
        let message = "it names no producer, which readers take for a broken writer's mark";
        add(false, METADATA, message.to_owned());
    }
    found
}

/// The faults as a table; a line where there are none.
pub fn faults_text(faults: &[Fault], width: Option<usize>) -> String {
    if faults.is_empty() {
        return "nothing is wrong that can be seen here\n".to_owned();
    }
    let mut table = Table::new(&[Column::Left, Column::Left, Column::Text]).without_indent();
    for Fault { fatal, file, message } in faults {
        let word =
            if *fatal { Cell::styled("error", BAD) } else { Cell::styled("warning", DOUBTFUL) };
        table.row([word, Cell::from(file.as_str()), Cell::from(plain(message).into_owned())]);
    }
    table.render(width)
}
