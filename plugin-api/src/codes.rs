//! The codes of all errors, one list.
//!
//! A code is one letter and four digits; the first two digits are the topic:
//! 01 plugins, 02 model directory and configuration, 03 weights, 04 graphs, 05 packages,
//! 06 compiling, 07 running and evaluating, 08 command line and output, 09 tokenizer and
//! `meta.yaml`. A code keeps its meaning for ever; one that falls out of use is not given again.

macro_rules! codes {
    ($($name:ident = $code:literal, $title:literal;)+) => {
        $(
            #[doc = concat!("`", $code, "`: ", $title, ".")]
            pub const $name: &str = $code;
        )+

        /// Every code with its title, in the order of the codes.
        pub const ALL: &[(&str, &str)] = &[$(($name, $title)),+];
    };
}

codes! {
    PLUGIN_UNREADABLE = "A0101", "the plugin file does not exist or cannot be read";
    PLUGIN_NOT_A_LIBRARY = "A0102", "the plugin file is not a shared library";
    PLUGIN_OTHER_CPU = "A0103", "the plugin was built for another processor";
    PLUGIN_OTHER_SYSTEM = "A0104", "the plugin was built for another operating system";
    PLUGIN_NO_MANIFEST = "A0105", "the library is not an anemll plugin: it has no manifest symbol";
    PLUGIN_MANIFEST_INVALID = "A0106", "the plugin's manifest cannot be read";
    PLUGIN_OTHER_EPOCH = "A0107", "the plugin needs another plugin ABI";
    PLUGIN_OPEN_FAILED = "A0108", "the system cannot load the library";
    PLUGIN_MANIFEST_DIFFERS = "A0109", "the loaded manifest is not the one in the file";
    PLUGIN_LAYOUT_DIFFERS = "A0110", "the plugin's types are laid out differently";
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
    PLUGIN_NOT_FOUND = "A0122", "no plugin offers what was asked for";
    PLUGIN_AMBIGUOUS = "A0123", "several plugins offer what was asked for";
    SCRATCH_DIRECTORY = "A0124", "the scratch directory cannot be made";
    LAYOUT_INVALID = "A0125", "a combiner's layout is wrong";

    MODEL_DIRECTORY_UNREADABLE = "A0201", "the model directory cannot be read";
    CONFIG_UNREADABLE = "A0202", "the model's configuration cannot be read";
    CONFIG_KEY_MISSING = "A0203", "the configuration lacks a key";
    CONFIG_KEY_INVALID = "A0204", "a key of the configuration has a wrong type or value";
    CONFIG_KEY_UNSUPPORTED = "A0205", "a key of the configuration asks for something that cannot be expressed";
    MODEL_TYPE_UNKNOWN = "A0206", "no arch frontend knows this model type";
    MODEL_TYPE_AMBIGUOUS = "A0207", "several arch frontends know this model type";
    SHAPE_INVALID = "A0208", "the context length or the batch does not suit the model";
    HUB_OFFLINE = "A0209", "the model is not on this machine, and the hub cannot be asked";
    DOWNLOAD_FAILED = "A0210", "the model cannot be downloaded";
    HUB_REFUSED = "A0211", "the hub does not give the model without a token that may have it";
    HUB_ANSWER_INVALID = "A0212", "the hub does not answer like a hub";
    DOWNLOAD_DAMAGED = "A0213", "a downloaded file is not what the hub says of it";
    HUB_CACHE_UNWRITABLE = "A0214", "the cache of downloaded models cannot be written";
    MODEL_IS_ADAPTER = "A0220", "the directory holds an adapter, not a model";
    CHECK_STRICT = "A0221", "a check found something to know, and --strict makes that a failure";

    SHARD_UNREADABLE = "A0301", "a weight file is missing or cannot be read";
    SHARD_INVALID = "A0302", "a weight file is damaged";
    INDEX_INVALID = "A0303", "the index of the weight files is wrong";
    WEIGHT_MISSING = "A0304", "a weight is missing";
    WEIGHT_SHAPE = "A0305", "a weight has another shape than the configuration says";
    WEIGHT_DTYPE = "A0306", "a weight has a dtype that is not supported";
    WEIGHT_NOT_FINITE = "A0307", "a weight has a value that is NaN or infinite";
    WEIGHT_OVERFLOW = "A0308", "a weight has a finite value that float16 cannot hold";
    WEIGHT_REFERENCE_INVALID = "A0309", "a reference to a weight cannot be resolved";
    STATISTICS_INVALID = "A0310", "the statistics of the weights' inputs cannot be used";
    WEIGHTS_QUANTIZED = "A0311", "the weights are quantized";
    HEAD_AMBIGUOUS = "A0312", "the head is tied to the embedding, and another is stored";
    WEIGHTS_CHANGED = "A0313", "a weight file changed while it was read";

    GRAPH_INVALID = "A0401", "a program is not a valid ML Program";
    GRAPH_OPERATION_UNKNOWN = "A0402", "a program has an unknown operation";
    GRAPH_TYPE = "A0403", "a program's types do not agree";
    GRAPH_INTERFACE = "A0404", "a model's description does not match its program";
    GRAPH_COMBINE = "A0405", "functions cannot be combined";
    GRAPH_UNKNOWN_FIELD = "A0406", "a model has a field that is not understood";

    PACKAGE_UNREADABLE = "A0501", "a package is missing or cannot be read";
    PACKAGE_INVALID = "A0502", "a package is damaged";
    BLOB_INVALID = "A0503", "a package's weight file is damaged";
    PACKAGE_UNWRITABLE = "A0504", "a package cannot be written";
    LINT_FOUND = "A0505", "the lint found what --strict does not allow";

    COMPILER_UNAVAILABLE = "A0601", "the compiler cannot run on this machine";
    COMPILE_FAILED = "A0602", "compiling a package failed";
    COMPILE_NOT_A_PROGRAM = "A0603", "the model is of a type that is not compiled here";
    COMPILED_INVALID = "A0604", "a compiled model is damaged";
    COMPILERS_DIFFER = "A0605", "two compilers made different models";
    NOT_ALL_COMPILED = "A0606", "some packages were not compiled";

    RUNTIME_UNAVAILABLE = "A0701", "the runtime cannot run on this machine";
    FUNCTION_UNKNOWN = "A0702", "a package has no such function";
    INPUT_INVALID = "A0703", "an input does not suit the function";
    OPERATION_UNSUPPORTED = "A0704", "the runtime cannot execute an operation";
    VALUE_UNKNOWN = "A0705", "a function has no such value";
    RUN_FAILED = "A0706", "running a function failed";
    EVALUATION_INPUT = "A0707", "the tokens or reference logits cannot be used";
    ENGINE_INTERFACE = "A0708", "the inputs of the packages do not suit each other";
    CALIBRATION_INPUT = "A0709", "the text or the model cannot be used for a calibration";

    USAGE = "A0801", "the command line is wrong";
    LAYOUT_OPTION_INVALID = "A0802", "the packages cannot be laid out like this";
    CANCELLED = "A0803", "interrupted";
    OUTPUT_UNWRITABLE = "A0804", "the output cannot be written";
    OUTPUT_EXISTS = "A0805", "the output is already there";
    NOT_YET_SUPPORTED = "A0806", "this is not supported yet";
    STEP_INPUT_MISSING = "A0807", "a step needs what an earlier one did not make";
    MACHINE_UNFIT = "A0808", "this machine lacks something that a conversion needs";
    OUTPUT_NOT_OURS = "A0810", "the output directory has files that no conversion made";
    OUTPUT_IS_MODEL = "A0811", "the output would take the place of the model's files";
    OUTPUT_RECORD_INVALID = "A0812", "a record in an output directory cannot be used";
    OUTPUT_LINK = "A0813", "a link or a file stands where the output directory has its own folders";
    THREADS = "A0820", "the threads that share the work cannot be started";
    PANICKED = "A0821", "a bug in anemll: the program stopped where it must not";
    PREFLIGHT_FOUND = "A0822", "preflight found what --strict does not allow";
    EXPORT_UNFINISHED = "A0830", "a conversion that is to be exported is not finished";
    EXPORT_NOT_COMPILED = "A0831", "a model that is to be exported is not compiled";
    EXPORT_TARGET = "A0832", "an export cannot be made in this directory";
    RELEASE_INVALID = "A0833", "release.json cannot be used";
    RELEASE_DIFFERS = "A0834", "an export is not as its release.json says";
    RELEASE_FAR = "A0835", "an export is too far from its original model";
    INTERNAL = "A0890", "a bug in anemll";

    META_INVALID = "A0901", "meta.yaml or anemll-run.json cannot be used";
    TOKENIZER_INVALID = "A0902", "the tokenizer cannot be used";
    PROMPT_INVALID = "A0903", "the prompt cannot be used";
    TOKENIZER_MISSING = "A0904", "the model has no tokenizer";
    TOKENIZER_FAILED = "A0905", "the tokenizer's files contradict themselves";
    TEMPLATE_INVALID = "A0910", "the chat template cannot be used";
    TEMPLATE_LIMIT = "A0911", "the chat template needs more than it may have";
    TEMPLATE_PROCESS = "A0912", "the process that renders chat templates does not work";
}

/// The title of a code of [`ALL`].
pub fn title(code: &str) -> Option<&'static str> {
    ALL.iter().find(|(known, _)| *known == code).map(|(_, title)| *title)
}

/// Whether `code` has the form of a code: one capital letter and four digits.
pub fn is_well_formed(code: &str) -> bool {
    let bytes = code.as_bytes();
    bytes.len() == 5 && bytes[0].is_ascii_uppercase() && bytes[1..].iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_well_formed_sorted_and_unique() {
        assert!(ALL.iter().all(|(code, _)| is_well_formed(code)));
        assert!(ALL.windows(2).all(|pair| pair[0].0 < pair[1].0), "the list must be in order");
    }

    #[test]
    fn titles_are_found() {
        assert_eq!(title(CANCELLED), Some("interrupted"));
        assert_eq!(title("Z9999"), None);
    }
}
