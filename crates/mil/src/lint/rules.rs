//! The one table of the rules: what each demands, how bad breaking it is, whom it concerns, why,
//! who says so, and what to do. The page docs/reference/lint.md is made from it.

use super::{Case, Check, Concern, Rule, Severity};
use super::{numbers, placement, rewrites, shapes, states, weights};

const ERROR: Severity = Severity::Error;
const WARNING: Severity = Severity::Warning;
const PERFORMANCE: Severity = Severity::Performance;
const NOTE: Severity = Severity::Note;

const FOREIGN: Concern = Concern::Foreign;
const MODEL: Concern = Concern::Model;

const fn case(severity: Severity, when: &'static str, concern: Concern) -> Case {
    Case { severity, when, concern }
}

/// All rules, by id.
pub const RULES: &[Rule] = &[
    Rule {
        id: "ANE-001",
        title: "tensors have rank 5 at most",
        cases: &[case(ERROR, "a tensor or state has more than five axes", FOREIGN)],
        reason: "The engine's compiler refuses the operation: it, and often all around it, goes to \
                 the GPU or the CPU.",
        evidence: "AM",
        sources: "Apple's Neural Engine rules (coreai-models): \"Max tensor rank: 5\"; measured on \
                  M4 and M6.",
        remedy: "Fold axes of size 1 and the batch before a reshape.",
        check: Check::Function(shapes::rank),
    },
    Rule {
        id: "ANE-003",
        title: "last axes of inputs and outputs are aligned",
        cases: &[
            case(
                PERFORMANCE,
                "the last axis is not a multiple of 64 bytes",
                Concern::Graph(
                    "the pieces of the head and the mask have the sizes that ANEMLL's apps expect; \
                     runtimes tell the padded strides",
                ),
            ),
            case(
                WARNING,
                "the last axis is shorter than 32 elements",
                Concern::Options("a conversion without --argmax"),
            ),
        ],
        reason: "Rows are padded to 64 bytes: an axis of size 1 costs 32 times its memory, and rows \
                 shorter than that were read as garbage by some systems.",
        evidence: "AM",
        sources: "Apple's Neural Engine rules: \"32x memory cost at fp16\"; widths below 32 failed \
                  on an M3 Max.",
        remedy: "Put the head size, the hidden size or the context last, and pad it to 32 elements.",
        check: Check::Function(shapes::alignment),
    },
    Rule {
        id: "ANE-005",
        title: "axes stay below the chip's limit",
        cases: &[case(
            ERROR,
            "a height or width is above 16384, the limit up to A16 and M3",
            Concern::Options("--context with a smaller value"),
        )],
        reason: "The operation does not compile for the engine. From A17 Pro and M4 on the limit is \
                 65536.",
        evidence: "M",
        sources: "Hardware tables of M4 and M6; compiler messages of an M2; an M3 Ultra took 16384 \
                  and refused 17920.",
        remedy: "Keep large sizes on two axes; choose a context of 16384 at most.",
        check: Check::Function(shapes::axis_limit),
    },
    Rule {
        id: "ANE-007",
        title: "inner sizes of products stay below the limit",
        cases: &[case(
            WARNING,
            "a product sums over more than 16384 values, the limit up to A16 and M3",
            MODEL,
        )],
        reason: "The product leaves the engine. From A17 Pro and M4 on the limit is 32768.",
        evidence: "M",
        sources: "M4: 32768 at most; macOS 15 on older chips: 16384 at most.",
        remedy: "Split the inner axis and add the parts.",
        check: Check::Function(shapes::inner_size),
    },
    Rule {
        id: "ANE-010",
        title: "shapes are static",
        cases: &[case(
            WARNING,
            "an input has a shape that is not fixed",
            Concern::Graph(
                "only the embeddings, whose tokens ANEMLL's apps give one by one or as a batch; \
                 that package runs on the CPU anyway",
            ),
        )],
        reason: "A function with a flexible shape may stay off the engine as a whole; with states it \
                 does.",
        evidence: "AM",
        sources: "executorch's Core ML documentation; apple/coremltools issue 2600.",
        remedy: "One function for each shape.",
        check: Check::Function(shapes::static_shapes),
    },
    Rule {
        id: "ANE-013",
        title: "tensors do not end in an axis of size 1",
        cases: &[case(
            PERFORMANCE,
            "tensors of 1024 elements or more end in an axis of size 1",
            Concern::Graph(
                "one token at a time is what ANEMLL's apps ask for; hidden vectors of (1, C, 1, 1) \
                 are small beside the weights",
            ),
        )],
        reason: "Such a tensor is padded 32 times. Eight columns cost what one does.",
        evidence: "M",
        sources: "Query widths 1 to 8 measured on an M5 Pro; 8 rows cost what 1 does on M6.",
        remedy: "Compute eight tokens at once where only one is wanted.",
        check: Check::Function(shapes::singleton_width),
    },
    Rule {
        id: "ANE-014",
        title: "attention scores do not end in an axis of size 1",
        cases: &[case(PERFORMANCE, "scores end in an axis of size 1", FOREIGN)],
        reason: "Every score is padded 32 times: a MiB for 512 positions of 32 heads.",
        evidence: "I",
        sources: "Follows from ANE-003.",
        remedy: "Multiply queries by transposed keys, so that the context is last.",
        check: Check::Function(shapes::scores),
    },
    Rule {
        id: "ANE-015",
        title: "floating point is fp16",
        cases: &[case(WARNING, "an operation computes in fp32", FOREIGN)],
        reason: "It runs on the GPU or the CPU, and the work changes place twice.",
        evidence: "AM",
        sources: "Apple's Neural Engine rules: \"fp32 falls back to GPU/CPU\".",
        remedy: "Convert with fp16 inputs, outputs and constants.",
        check: Check::Function(placement::half_precision),
    },
    Rule {
        id: "ANE-016",
        title: "no switches away from the Neural Engine",
        cases: &[case(
            PERFORMANCE,
            "stretches of operations leave the engine",
            Concern::Graph(
                "these are the lookups and indices of ANE-017 and ANE-025: ANEMLL's profile of \
                 the same graph shows 12 of 1634 operations off the engine",
            ),
        )],
        reason: "Each change of place costs about 0.1 ms.",
        evidence: "M",
        sources: "A cost model with 0.125 ms for each switch explains 440 of 482 placements on an M4.",
        remedy: "Compute positions outside the program and pass them as inputs.",
        check: Check::Function(placement::islands),
    },
    Rule {
        id: "ANE-017",
        title: "no int32 arithmetic",
        cases: &[case(
            WARNING,
            "an operation computes with int32",
            Concern::Graph(
                "positions come as int32 by the contract of ANEMLL's apps; the compiler joins most \
                 of these, and ANEMLL's profile shows 12 operations off the engine",
            ),
        )],
        reason: "It runs on the CPU: \"Unsupported tensor data type: int32\".",
        evidence: "M",
        sources: "anemll-profile prints the compiler's reason; operation lists of M4 and M6.",
        remedy: "Compute positions, ends and masks outside the program.",
        check: Check::Function(placement::integer_arithmetic),
    },
    Rule {
        id: "ANE-020",
        title: "no casts between fp16 and integers",
        cases: &[case(NOTE, "a cast goes from integers to floats or back", FOREIGN)],
        reason: "Such casts run on the CPU.",
        evidence: "M",
        sources: "Operation lists of M4 and M6.",
        remedy: "Pass both kinds of number as inputs.",
        check: Check::Function(placement::casts),
    },
    Rule {
        id: "ANE-025",
        title: "no operations that only the CPU has",
        cases: &[
            case(
                WARNING,
                "a gather, or a slice by size, from places known only at run time",
                Concern::Graph(
                    "embeddings and rows of the rotary tables are looked up by token and position, \
                     as in ANEMLL's graph, once for each function",
                ),
            ),
            case(
                WARNING,
                "an operation that the engine does not have",
                Concern::Options("a conversion without --argmax"),
            ),
        ],
        reason: "It runs on the CPU, and the work changes place twice.",
        evidence: "M",
        sources: "Operation list of an M4 with macOS 27; comments in coremltools.",
        remedy: "Pass masks and rotary rows as inputs; take the largest logit outside the program.",
        check: Check::Function(placement::denied),
    },
    Rule {
        id: "ANE-027",
        title: "slice_update belongs to a state",
        cases: &[case(WARNING, "a slice_update does not go from a state back to it", FOREIGN)],
        reason: "It runs on the CPU: \"Cannot support standalone slice_update\".",
        evidence: "M",
        sources: "anemll-profile prints the compiler's reason.",
        remedy: "Read the state, update it, and write it, with nothing between.",
        check: Check::Function(states::standalone_update),
    },
    Rule {
        id: "ANE-028",
        title: "cached keys and values are not repeated",
        cases: &[case(
            PERFORMANCE,
            "what a state holds is copied for every query head",
            Concern::Graph(
                "ANEMLL's form, which loads on every device it was tried on; a leaner form is \
                 faster on paper only until it is measured on a device",
            ),
        )],
        reason: "Copies of the whole cache are made in every layer for every token.",
        evidence: "AM",
        sources: "Apple's coreai-models indexes the cached heads; executorch avoids the copies, too.",
        remedy: "Group the queries of a key head on one axis.",
        check: Check::Function(rewrites::repeated_cache),
    },
    Rule {
        id: "ANE-036",
        title: "the attention scale is folded into weights",
        cases: &[case(
            PERFORMANCE,
            "scores are multiplied by a constant",
            Concern::Graph(
                "folding changes the rounding of palettized weights, and ANEMLL's packages would \
                 not be matched number by number",
            ),
        )],
        reason: "One more pass over all scores, which are larger before it.",
        evidence: "AI",
        sources: "Apple's coreai-models scales the keys before the product.",
        remedy: "Multiply the query weights, or the norm of the queries, by the scale.",
        check: Check::Function(rewrites::scale),
    },
    Rule {
        id: "ANE-040",
        title: "states have rank 4",
        cases: &[case(WARNING, "a state has another rank than 4", FOREIGN)],
        reason: "Graphs with states of rank 5 failed to compile, the same with rank 4 ran.",
        evidence: "M",
        sources: "FluidAudio pull request 679; executorch keeps lists of rank 4.",
        remedy: "Fold layers and keys and values into the first axis.",
        check: Check::Function(states::rank),
    },
    Rule {
        id: "ANE-041",
        title: "a state's last axis is a multiple of 32",
        cases: &[case(ERROR, "a state's last axis is not a multiple of 32", MODEL)],
        reason: "Loading or predicting fails: 256 works, 270 does not.",
        evidence: "M",
        sources: "apple/coremltools issue 2631, M4 with macOS 15.2, open.",
        remedy: "Put the head size last; pad it, if the model's is another.",
        check: Check::Function(states::last_axis),
    },
    Rule {
        id: "ANE-042",
        title: "states are updated in the canonical form",
        cases: &[case(
            ERROR,
            "a state is written by another way than read, update, write, or read where it is old",
            FOREIGN,
        )],
        reason: "The model does not load, or attends to what the cache held before.",
        evidence: "A",
        sources: "coremltools' passes canonicalize_inplace_pattern and \
                  prefer_state_in_downstream.",
        remedy: "Read the state again after the write.",
        check: Check::Function(states::canonical),
    },
    Rule {
        id: "ANE-043",
        title: "nothing stands between read_state and slice_update",
        cases: &[case(ERROR, "a state is reshaped before its update", FOREIGN)],
        reason: "Loading fails: \"MIL program input not found in Core ML model inputs\".",
        evidence: "M",
        sources: "apple/coremltools issues 2275 and 2278.",
        remedy: "Bring the update into the shape of the state instead.",
        check: Check::Function(states::direct),
    },
    Rule {
        id: "ANE-045",
        title: "states are fp16",
        cases: &[case(ERROR, "a state has another element type", FOREIGN)],
        reason: "Core ML knows no other states.",
        evidence: "A",
        sources: "coremltools: \"Core ML only support fp16 for state\".",
        remedy: "Keep the state in fp16.",
        check: Check::Function(states::data_type),
    },
    Rule {
        id: "ANE-046",
        title: "a function has one state",
        cases: &[case(WARNING, "two states", MODEL), case(ERROR, "three or more states", FOREIGN)],
        reason: "From three on the model compiles and then fails at prediction (0x1d); two failed \
                 for some graphs.",
        evidence: "M",
        sources: "iPhone 17 Pro and Macs with OS 26; on an M1 48 states worked.",
        remedy: "Pack keys and values of all layers into one state.",
        check: Check::Function(states::count),
    },
    Rule {
        id: "ANE-047",
        title: "at most 64 tokens are written at once",
        cases: &[case(
            WARNING,
            "more than 64 tokens are written to a state at once",
            Concern::Options("--batch 64"),
        )],
        reason: "128 tokens of heads of 128 failed with states.",
        evidence: "M",
        sources: "apple/coremltools issue 2553, Anemll issue 27; macOS 15.",
        remedy: "Take a batch of 64, or 32.",
        check: Check::Function(states::tokens),
    },
    Rule {
        id: "ANE-053",
        title: "norms do not square raw fp16 values",
        cases: &[case(ERROR, "a norm squares its input in fp16", FOREIGN)],
        reason: "Squares of values above 256 overflow, and an epsilon of 1e-6 vanishes.",
        evidence: "AM",
        sources: "coremltools' lowering of RMSNorm says so; overflows were seen.",
        remedy: "Use layer_norm over [x, -x], or divide by the largest value first.",
        check: Check::Function(numbers::squared_norm),
    },
    Rule {
        id: "ANE-055",
        title: "masks are finite",
        cases: &[case(ERROR, "a constant mask holds an infinity, or overflows fp16", FOREIGN)],
        reason: "The engine does not handle infinities as IEEE demands; a row that is masked as a \
                 whole gives NaN.",
        evidence: "AM",
        sources: "Apple's Neural Engine rules; measured on M4 and M6.",
        remedy: "Mask with -1e4.",
        check: Check::Function(numbers::masks),
    },
    Rule {
        id: "ANE-060",
        title: "lookup tables have a form that every chip runs",
        cases: &[
            case(ERROR, "entries of a lookup table are not fp16", FOREIGN),
            case(
                ERROR,
                "a lookup table of vectors has groups, is not along the output channels, has more than 256 \
                 numbers, or has vectors of another length than 2, 4, 8 or 16",
                FOREIGN,
            ),
            case(NOTE, "indices have 3 bits", Concern::Options("--lut2 2 or --lut2 4")),
            case(WARNING, "a palettized weight is of no linear layer", FOREIGN),
            case(
                WARNING,
                "one lookup table of vectors along output channels",
                Concern::Options("--lut BITS,scale"),
            ),
        ],
        reason: "Other forms leave the engine or need the newest chips; 3-bit indices take 4 bits \
                 before them.",
        evidence: "AM",
        sources: "coremltools' guide to palettization; placements on iPhone 17 Pro and M6; limits of \
                  vectors from Anemll's notes on M5 Max and M6, macOS 27.",
        remedy: "Take 1, 2, 4, 6 or 8 bits, one table or a table for groups of output channels.",
        check: Check::Function(weights::lut_form),
    },
    Rule {
        id: "ANE-061",
        title: "lookup tables serve 8 output channels or more",
        cases: &[
            case(
                PERFORMANCE,
                "a table serves 3 to 7 output channels",
                Concern::Options("--lut BITS,8"),
            ),
            case(ERROR, "a table serves 1 or 2 output channels", Concern::Options("--lut BITS,8")),
        ],
        reason: "Groups of 4 cost a tenth, of 2 twice the time, one table for each channel four \
                 times.",
        evidence: "AM",
        sources: "coremltools' measurements of OPT-1.3B on an iPhone 15 Pro.",
        remedy: "Group 8, 16 or 32 output channels.",
        check: Check::Function(weights::lut_groups),
    },
    Rule {
        id: "ANE-062",
        title: "lookup tables are grouped along output channels",
        cases: &[case(ERROR, "tables are grouped along input channels", FOREIGN)],
        reason: "Wrong numbers, or a model that does not compile.",
        evidence: "M",
        sources: "apple/coreai-torch issue 93, M5 Pro.",
        remedy: "Group along the first axis only.",
        check: Check::Function(weights::lut_axis),
    },
    Rule {
        id: "ANE-063",
        title: "linear scales are per output channel",
        cases: &[case(ERROR, "scales are in blocks of input channels", FOREIGN)],
        reason: "The weight is computed off the engine; with iOS 27 some were silently wrong.",
        evidence: "MA",
        sources: "apple/coremltools issue 2510: \"ANE only support per-cout/per-tensor \
                  quantization\"; apple/coreai-models issue 279.",
        remedy: "One scale for each output channel, or lookup tables.",
        check: Check::Function(weights::blockwise),
    },
    Rule {
        id: "ANE-066",
        title: "no scale is wrapped around a lookup table",
        cases: &[case(ERROR, "a scale is applied to floats, such as those of a table", FOREIGN)],
        reason: "Loading crashes on macOS 26.",
        evidence: "MA",
        sources: "apple/coremltools pull request 2688.",
        remedy: "Fold the scale into the tables, or multiply the layer's output.",
        check: Check::Function(weights::wrapped),
    },
    Rule {
        id: "ANE-068",
        title: "no layer is left uncompressed by accident",
        cases: &[case(
            NOTE,
            "a weight of a linear layer is plain, though others of its function are not",
            Concern::Options("--lut2 and --lut3, both"),
        )],
        reason: "Tools leave a layer in 16 bits without a word where a group does not divide its \
                 channels.",
        evidence: "A",
        sources: "Apple's guide to compression.",
        remedy: "Take a smaller group, or accept the size.",
        check: Check::Function(weights::skipped),
    },
    Rule {
        id: "ANE-071",
        title: "weight files stay below the limits",
        cases: &[
            case(
                WARNING,
                "a weight file has 950 MB or more",
                Concern::Options("--chunk auto, or fewer bits with --lut2"),
            ),
            case(
                ERROR,
                "a weight file has 1 GB or more, which phones do not load",
                Concern::Options("--chunk auto, or fewer bits with --lut2"),
            ),
            case(
                ERROR,
                "a weight file has 2 GiB or more, which nothing loads",
                Concern::Options("--chunk auto, or fewer bits with --lut2"),
            ),
        ],
        reason: "\"Exceeds the maximum (2147483648 bytes)\"; on phones the model goes to the GPU \
                 without a word, and then memory runs out.",
        evidence: "MA",
        sources: "apple/coremltools pull request 2593 and its guide (1 GB); ANEMLL plans chunks of \
                  950 MB.",
        remedy: "Cut the model into more chunks.",
        check: Check::Model(weights::file_size),
    },
    Rule {
        id: "ANE-080",
        title: "a function has 20 layers at most",
        cases: &[
            case(WARNING, "21 to 28 layers", Concern::Options("--chunk auto")),
            case(ERROR, "more than 28 layers", Concern::Options("--chunk auto")),
        ],
        reason: "Some devices fail to load a function of many layers: 35 failed on an iPhone 17 Pro \
                 where 15 to 20 loaded; 28 failed on macOS 15, though some models of 28 load.",
        evidence: "M",
        sources: "CoreML-LLM (iPhone 17 Pro); speech-swift pull request 282; apple/coremltools \
                  issue 2758.",
        remedy: "Cut the model into more chunks.",
        check: Check::Function(placement::layers),
    },
    Rule {
        id: "ANE-081",
        title: "a model is cut into as many chunks as the limits ask for",
        cases: &[case(
            PERFORMANCE,
            "bytes or layers ask for more chunks",
            Concern::Options("--chunk auto"),
        )],
        reason: "One limit is that of ANE-080, the other 950 MB for a chunk with the tenth that the \
                 compiler adds. More chunks than these ask for cost a call each, about 0.2 ms.",
        evidence: "M",
        sources: "ANEMLL's calc_chunk_split; two chunks instead of four gave 2 % (CoreML-LLM).",
        remedy: "Take the number of chunks that `anemll plan` names.",
        check: Check::Model(weights::chunks),
    },
    Rule {
        id: "ANE-085",
        title: "functions share equal weights",
        cases: &[case(ERROR, "two functions store one weight twice", FOREIGN)],
        reason: "The file is larger than it need be, and so is the memory.",
        evidence: "AM",
        sources: "coremltools' comments on deduplication; ANEMLL's dedup: 862 to 472 MB.",
        remedy: "`anemll combine` stores equal weights once.",
        check: Check::Model(weights::shared),
    },
    Rule {
        id: "ANE-086",
        title: "functions declare equal states",
        cases: &[case(ERROR, "a state has another type in another function", FOREIGN)],
        reason: "Functions that share a state must agree on it.",
        evidence: "A",
        sources: "apple/coremltools pull request 2686.",
        remedy: "Convert both functions with the same context.",
        check: Check::Model(states::equal),
    },
    Rule {
        id: "ANE-094",
        title: "constants fit fp16",
        cases: &[case(ERROR, "a constant overflows fp16, or an epsilon is zero in it", FOREIGN)],
        reason: "The value becomes an infinity, or the division one by zero.",
        evidence: "MI",
        sources: "Reports of masks of -1e9 that became infinities.",
        remedy: "Choose values within 6e-8 and 65504.",
        check: Check::Function(numbers::constants),
    },
    Rule {
        id: "ANE-096",
        title: "rotary tables are inputs",
        cases: &[case(
            PERFORMANCE,
            "a table of sines and cosines is looked up or computed in the graph",
            Concern::Graph(
                "ANEMLL's apps pass positions, not rows; the lookup is done once for each function",
            ),
        )],
        reason: "The lookup runs on the CPU at the beginning of every call.",
        evidence: "A",
        sources: "Apple's coreai-models: \"Precompute cos/sin outside the exported model\".",
        remedy: "Pass the rows as inputs.",
        check: Check::Function(rewrites::tables),
    },
    Rule {
        id: "ANE-099",
        title: "weights per core stay clear of 1 MiB multiples",
        cases: &[case(
            PERFORMANCE,
            "what a core loads of a weight is within 16 KiB of a multiple of 1 MiB",
            MODEL,
        )],
        reason: "Loading is half as fast there: one layer of 2048 by 4096 took 840 µs, in two parts \
                 430 µs.",
        evidence: "M",
        sources: "stablehlo-coreml pull request 110, M4, fp16 weights; for packed weights an \
                  inference.",
        remedy: "Split the input channels, or take another number of bits.",
        check: Check::Function(weights::notch),
    },
];

/// The rule of this id, in any case, with or without its `ANE-`.
pub fn rule(id: &str) -> Option<&'static Rule> {
    let wanted = id.to_ascii_uppercase();
    RULES.iter().find(|rule| rule.id == wanted || rule.id.strip_prefix("ANE-") == Some(&*wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_sorted_and_complete() {
        assert_eq!(rule("017").map(|rule| rule.id), Some("ANE-017"));
        assert!(RULES.windows(2).all(|pair| pair[0].id < pair[1].id), "the list must be in order");
        for rule in RULES {
            let number = rule.id.strip_prefix("ANE-").unwrap();
            assert!(number.len() == 3 && number.bytes().all(|byte| byte.is_ascii_digit()));
            assert!(!rule.cases.is_empty(), "{}", rule.id);
            for text in [rule.title, rule.reason, rule.sources, rule.remedy] {
                assert!(!text.is_empty() && !text.contains("  "), "{}: {text:?}", rule.id);
            }
            assert!(rule.evidence.chars().all(|letter| "MAFI".contains(letter)), "{}", rule.id);
        }
        assert_eq!(rule("ane-017").unwrap().id, "ANE-017");
        assert!(rule("A0101").is_none());
    }
}
