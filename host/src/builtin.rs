//! Our plugins, linked into the program. A crate that nothing names is not linked; these lines name
//! each.

use anemll_arch_llama as _;
use anemll_arch_qwen2_5 as _;
use anemll_arch_qwen3 as _;
use anemll_combiner_chunked as _;
use anemll_combiner_monolithic as _;
use anemll_compiler_coremlcompiler as _;
use anemll_compiler_mlmodelc as _;
use anemll_quantizer_lut as _;
use anemll_runtime_cpu as _;
