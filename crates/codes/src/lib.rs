//! The codes of all errors that users see: one list, with what each means.
//!
//! Those that plugins raise stand in [`anemll_plugin_api::codes`] and are here under the same names;
//! the others are the host's, and no crate that plugins link needs them. A code is one letter and
//! four digits; the first two digits are the topic: 01 plugins, 02 model directory and
//! configuration, 03 weights, 04 graphs, 05 packages, 06 compiling, 07 running and evaluating,
//! 08 command line and output, 09 tokenizer and `meta.yaml`, 10 serving. A code
//! keeps its meaning for ever; one that falls out of use is not given again.

use std::sync::LazyLock;

pub use anemll_plugin_api::codes::*;

/// Codes of the host.
mod host {
    anemll_plugin_api::__codes! {
        /// The host's codes with their titles, in the order of the codes.

        PLUGIN_UNREADABLE = "A0101", "the plugin file does not exist or cannot be read";
        PLUGIN_NOT_A_LIBRARY = "A0102", "the plugin file is not a shared library";
        PLUGIN_OTHER_CPU = "A0103", "the plugin was built for another processor";
        PLUGIN_OTHER_SYSTEM = "A0104", "the plugin was built for another operating system";
        PLUGIN_NO_MANIFEST = "A0105", "the library is not an anemll plugin: it has no manifest symbol";
        PLUGIN_OPEN_FAILED = "A0108", "the system cannot load the library";
        PLUGIN_MANIFEST_DIFFERS = "A0109", "the loaded manifest is not the one in the file";
        PLUGIN_LAYOUT_DIFFERS = "A0110", "the plugin's types are laid out differently";
        PLUGIN_NOT_FOUND = "A0122", "no plugin offers what was asked for";
        PLUGIN_AMBIGUOUS = "A0123", "several plugins offer what was asked for";
        PLUGIN_UNTRUSTED = "A0126", "a plugin is not loaded, as the lock file does not list it";
        PLUGIN_STALE = "A0127", "a plugin has changed since it was trusted";
        PLUGIN_LOCK_INVALID = "A0128", "the lock file of plugins cannot be read or written";
        PLUGIN_PATH_INVALID = "A0129", "ANEMLL_PLUGIN_PATH has a folder that is not absolute";
        PLUGIN_WRITABLE = "A0130", "anyone may write to a plugin's file";
        NEW_PLUGIN_NAME = "A0141", "a new plugin cannot have this name";
        SDK_UNFIT = "A0142", "the crates that plugins are built against are missing or of another version";

        MODEL_DIRECTORY_UNREADABLE = "A0201", "the model directory cannot be read";
        MODEL_TYPE_UNKNOWN = "A0206", "no arch frontend knows this model type";
        MODEL_TYPE_AMBIGUOUS = "A0207", "several arch frontends know this model type";
        HUB_OFFLINE = "A0209", "the model is not on this machine, and the hub cannot be asked";
        DOWNLOAD_FAILED = "A0210", "the model cannot be downloaded";
        HUB_REFUSED = "A0211", "the hub does not give the model without a token that may have it";
        HUB_ANSWER_INVALID = "A0212", "the hub does not answer like a hub";
        DOWNLOAD_DAMAGED = "A0213", "a downloaded file is not what the hub says of it";
        HUB_CACHE_UNWRITABLE = "A0214", "the cache of downloaded models cannot be written";
        MODEL_IS_ADAPTER = "A0220", "the directory holds an adapter, not a model";
        CHECK_STRICT = "A0221", "a check found something to know, and --strict makes that a failure";
        ADAPTER_UNFIT = "A0222", "an adapter cannot be merged into the model";

        SHARD_UNREADABLE = "A0301", "a weight file is missing or cannot be read";
        SHARD_INVALID = "A0302", "a weight file is damaged";
        INDEX_INVALID = "A0303", "the index of the weight files is wrong";
        WEIGHT_OVERFLOW = "A0308", "a weight has a finite value that float16 cannot hold";
        STATISTICS_INVALID = "A0310", "the statistics of the weights' inputs cannot be used";
        HEAD_AMBIGUOUS = "A0312", "the head is tied to the embedding, and another is stored";
        WEIGHTS_CHANGED = "A0313", "a weight file changed while it was read";
        GGUF_INVALID = "A0314", "a GGUF file is damaged";
        GGUF_UNSUPPORTED = "A0315", "a GGUF file holds what cannot be converted";

        LINT_FOUND = "A0505", "the lint found what --strict does not allow";
        BUNDLE_UNFIT = "A0506", "a bundle is not what Apple's apps load";

        COMPILERS_DIFFER = "A0605", "two compilers made different models";
        NOT_ALL_COMPILED = "A0606", "some packages were not compiled";

        EVALUATION_INPUT = "A0707", "the tokens or reference logits cannot be used";
        ENGINE_INTERFACE = "A0708", "the inputs of the packages do not suit each other";
        CALIBRATION_INPUT = "A0709", "the text or the model does not suit a calibration";
        CONVERSION_KIND = "A0712", "the conversion gives something else than the command wants";

        USAGE = "A0801", "the command line is wrong";
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

        META_INVALID = "A0901", "meta.yaml or anemll-run.json cannot be used";
        TOKENIZER_INVALID = "A0902", "the tokenizer cannot be used";
        PROMPT_INVALID = "A0903", "the prompt cannot be used";
        TOKENIZER_MISSING = "A0904", "the model has no tokenizer";
        TOKENIZER_FAILED = "A0905", "the tokenizer's files contradict themselves";
        TEMPLATE_INVALID = "A0910", "the chat template cannot be used";
        TEMPLATE_LIMIT = "A0911", "the chat template needs more than it may have";
        TEMPLATE_PROCESS = "A0912", "the process that renders chat templates does not work";

        SERVER_ADDRESS = "A1001", "an address cannot be served at";
        SERVER_KEY = "A1002", "a server needs a key, or the file with its keys cannot be used";
        REQUEST_INVALID = "A1011", "a request to the server cannot be understood or honoured";
        REQUEST_TOO_LARGE = "A1012", "a request to the server is too large";
        REQUEST_SLOW = "A1013", "a client of the server is too slow";
        REQUEST_FORBIDDEN = "A1014", "a page or a name of others may not ask the server";
        KEY_REFUSED = "A1015", "a request shows no key, or one that the server does not know";
        MODEL_NOT_SERVED = "A1016", "the server has no model of this name";
        SERVER_BUSY = "A1017", "the server takes no more requests now";
    }
}

#[doc(no_inline)]
pub use host::*;

/// Every code with its title, in the order of the codes.
pub static ALL: LazyLock<Vec<(&str, &str)>> = LazyLock::new(|| {
    let mut all = [anemll_plugin_api::codes::ALL, host::ALL].concat();
    all.sort_unstable();
    all
});

/// One entry for each code: the code, what it means, `cause: a; b`, `do: …`.
const TEXTS: &str = include_str!("errors.txt");

/// A code in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Code, such as `A0503`.
    pub code: &'static str,
    /// Its title, as [`ALL`] has it.
    pub title: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// Common causes.
    pub causes: Vec<&'static str>,
    /// What to do.
    pub remedy: &'static str,
}

/// What a code means; none for one that is not in [`ALL`].
pub fn explanation(code: &str) -> Option<Explanation> {
    let (code, title) = ALL.iter().copied().find(|(known, _)| *known == code)?;
    let entry = TEXTS.split("\n\n").find(|entry| entry.trim_start().starts_with(code))?;
    let mut lines = entry.trim().lines().skip(1);
    let meaning = lines.next()?;
    let causes = lines.next()?.strip_prefix("cause: ")?.split("; ").collect();
    let remedy = lines.next()?.strip_prefix("do: ")?;
    lines.next().is_none().then_some(Explanation { code, title, meaning, causes, remedy })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_well_formed_and_stand_once() {
        assert!(ALL.iter().all(|(code, _)| is_well_formed(code)));
        assert!(ALL.is_sorted_by(|one, next| one.0 < next.0), "a code stands twice: {:?}", *ALL);
        for list in [anemll_plugin_api::codes::ALL, host::ALL] {
            assert!(list.is_sorted(), "the list must be in order: {list:?}");
        }
    }

    #[test]
    fn every_code_has_a_text() {
        for (code, _) in ALL.iter() {
            let Some(found) = explanation(code) else {
                panic!("crates/codes/src/errors.txt has no whole entry for {code}");
            };
            assert!(found.meaning.ends_with('.') && found.remedy.ends_with('.'), "{code}");
            assert!(found.causes.iter().all(|cause| !cause.ends_with('.')), "{code}");
        }
        assert_eq!(explanation("A9999"), None);
    }

    #[test]
    fn texts_are_in_order_and_of_codes() {
        let known: Vec<&str> =
            TEXTS.split("\n\n").filter_map(|entry| entry.lines().next()).collect();
        let all: Vec<&str> = ALL.iter().map(|(code, _)| *code).collect();
        assert_eq!(known, all);
    }
}
