//! The codes of the errors that plugins raise, and of those that come of calling one.
//!
//! A code is one letter and four digits; the first two digits are the topic:
//! 01 plugins, 02 configuration, 03 weights, 04 graphs, 05 packages, 06 compiling, 07 running,
//! 08 output. A code keeps its meaning for ever; one that falls out of use is not given again.
//! Hosts have more codes than these: `anemll explain` lists all.

/// Constants for codes, and `ALL`.
#[doc(hidden)]
#[macro_export]
macro_rules! __codes {
    ($(#[$about:meta])* $($name:ident = $code:literal, $title:literal;)+) => {
        $(
            #[doc = concat!("`", $code, "`: ", $title, ".")]
            pub const $name: &str = $code;
        )+

        $(#[$about])*
        pub const ALL: &[(&str, &str)] = &[$(($name, $title)),+];
    };
}

__codes! {
    /// These codes with their titles, in the order of the codes.

    PLUGIN_MANIFEST_INVALID = "A0106", "the plugin's manifest cannot be read";
    PLUGIN_OTHER_EPOCH = "A0107", "the plugin needs another plugin ABI";
    PLUGIN_DUPLICATE_ID = "A0111", "two components have the same id";
    PLUGIN_OPTIONS_SCHEMA = "A0112", "the plugin's options schema is invalid";
    PLUGIN_PANICKED = "A0113", "the plugin panicked";
    PLUGIN_NO_SUCH_COMPONENT = "A0114", "the plugin has no such component";
    PLUGIN_BAD_ANSWER = "A0115", "the plugin gave an answer that cannot be used";
    PLUGIN_SINK_MISUSED = "A0116", "a tensor was written that does not match its announcement";
    HOST_PANICKED = "A0117", "the host panicked in a call from a plugin";
    PLUGIN_OPTION_INVALID = "A0118", "an option of a plugin has a wrong value";
    TENSOR_SIZE = "A0120", "a tensor's bytes do not match its shape and dtype";
    PLUGIN_BAD_REQUEST = "A0121", "the request to a plugin cannot be read";
    SCRATCH_DIRECTORY = "A0124", "the scratch directory cannot be made";
    LAYOUT_INVALID = "A0125", "a combiner's layout is wrong";

    CONFIG_UNREADABLE = "A0202", "the model's configuration cannot be read";
    CONFIG_KEY_MISSING = "A0203", "the configuration lacks a key";
    CONFIG_KEY_INVALID = "A0204", "a key of the configuration has a wrong type or value";
    CONFIG_KEY_UNSUPPORTED = "A0205", "a key of the configuration asks for something that cannot be expressed";
    SHAPE_INVALID = "A0208", "the context length or the batch does not suit the model";

    WEIGHT_MISSING = "A0304", "a weight is missing";
    WEIGHT_SHAPE = "A0305", "a weight has another shape than the configuration says";
    WEIGHT_DTYPE = "A0306", "a weight has a dtype that is not supported";
    WEIGHT_NOT_FINITE = "A0307", "a weight has a value that is NaN or infinite";
    WEIGHT_REFERENCE_INVALID = "A0309", "a reference to a weight cannot be resolved";
    WEIGHTS_QUANTIZED = "A0311", "the weights are quantized";

    GRAPH_INVALID = "A0401", "a program is not a valid ML Program";
    GRAPH_INTERFACE = "A0404", "a model's description does not match its program";
    GRAPH_COMBINE = "A0405", "functions cannot be combined";

    PACKAGE_UNREADABLE = "A0501", "a package is missing or cannot be read";
    PACKAGE_INVALID = "A0502", "a package is damaged";
    BLOB_INVALID = "A0503", "a package's weight file is damaged";

    COMPILER_UNAVAILABLE = "A0601", "the compiler cannot run on this machine";
    COMPILE_FAILED = "A0602", "compiling a package failed";
    COMPILE_NOT_A_PROGRAM = "A0603", "the model is of a type that is not compiled here";
    COMPILED_INVALID = "A0604", "a compiled model is damaged";

    RUNTIME_UNAVAILABLE = "A0701", "the runtime cannot run on this machine";
    FUNCTION_UNKNOWN = "A0702", "a package has no such function";
    INPUT_INVALID = "A0703", "an input does not suit the function";
    OPERATION_UNSUPPORTED = "A0704", "the runtime cannot execute an operation";
    VALUE_UNKNOWN = "A0705", "a function has no such value";
    RUN_FAILED = "A0706", "running a function failed";

    LAYOUT_OPTION_INVALID = "A0802", "the packages cannot be laid out like this";
    CANCELLED = "A0803", "interrupted";
    OUTPUT_UNWRITABLE = "A0804", "the output cannot be written";
    OUTPUT_EXISTS = "A0805", "the output is already there";
    NOT_YET_SUPPORTED = "A0806", "this is not supported yet";
    INTERNAL = "A0890", "a bug in anemll";
}

/// Whether `code` has the form of a code: one capital letter and four digits.
pub fn is_well_formed(code: &str) -> bool {
    let bytes = code.as_bytes();
    bytes.len() == 5 && bytes[0].is_ascii_uppercase() && bytes[1..].iter().all(u8::is_ascii_digit)
}
