//! Reading and writing gives a semantically equal model, for every model that others wrote.

use coreml_proto::{read_model, write};

#[test]
fn read_write_read_is_equal() {
    for path in crate::common::reference_models() {
        let bytes = std::fs::read(&path).unwrap();
        let model =
            read_model(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let written = write(&model);
        // Nothing is lost: map entries may change their order, and a writer that spells out default
        // values (only `.mlmodel` files of the pairs) has longer files, but no more bytes go.
        let spells_defaults = !path.to_string_lossy().contains(".mlpackage");
        let lost = bytes.len() - written.len();
        assert!(lost == 0 || (spells_defaults && lost < 16), "{}: {lost}", path.display());
        let again = read_model(&written).unwrap();
        assert!(model == again, "{} differs after writing", path.display());
        assert_eq!(written, write(&again), "{} has two encodings", path.display());
    }
}
