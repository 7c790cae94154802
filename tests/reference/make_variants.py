"""Write the very small models below tests/models/variants, one per feature of config.json.

    python make_variants.py [--output DIR] [--only NAME ...]
    python make_variants.py --check     # make everything again in memory; fail if a stored golden file would change

Each directory holds config.json, the weights (random, seeded), and golden/:
    ids.npy     int32   [T]             random token ids
    logits.npy  float16 [T, vocabulary] transformers, float32, CPU, eager, from the weights rounded to their dtype

Families that only transformers 5 knows are made where that is installed (requirements-5.txt), all others with the
version of requirements.txt.

Most variants also name a *mistake*: what a converter that overlooks the feature would compute. The script refuses
to write a variant whose logits the mistake hardly changes, for such a golden file would prove nothing.
"""

import argparse
import dataclasses
import json
import math
import pathlib
import shutil
import tempfile
from collections.abc import Callable

import numpy
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

import reference_logits
from reference_json import write_json

SMALLEST_EFFECT = 0.1  # mean |change of a logit| which a mistake must cause
GOLDEN_TOLERANCE = 1e-3
FLOAT16_LARGEST = 65504.0

BASE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "attention_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 96,
    "max_position_embeddings": 256,
    "mlp_bias": False,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "use_cache": True,
    "vocab_size": 304,
}

# What config.json of the other architectures has more, fewer or otherwise than BASE.
QWEN = {
    "eos_token_id": 2,
    "max_window_layers": 1,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 64,  # without effect: use_sliding_window is false
    "use_sliding_window": False,
}
FAMILIES = {
    "llama": ({}, ()),
    "mistral": (
        {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None},
        ("attention_bias", "mlp_bias"),
    ),
    "qwen2": (
        {**QWEN, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"},
        ("attention_bias", "mlp_bias", "rope_scaling"),
    ),
    "qwen3": (
        {**QWEN, "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 32},
        ("mlp_bias",),
    ),
}

GEMMA = {
    "head_dim": 32,
    "hidden_activation": "gelu_pytorch_tanh",
    "pad_token_id": 0,
    "query_pre_attn_scalar": 40,
    "rms_norm_eps": 1e-06,
    "sliding_window": 24,
}
FAMILIES.update(
    {
        "smollm3": (
            {"architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "pad_token_id": 0, "use_sliding_window": False},
            (),
        ),
        "olmo2": (
            {"architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2", "pad_token_id": 0, "tie_word_embeddings": False},
            ("mlp_bias",),
        ),
        "olmo3": (
            {"architectures": ["Olmo3ForCausalLM"], "model_type": "olmo3", "pad_token_id": 0, "sliding_window": 24},
            ("mlp_bias",),
        ),
        "gemma2": ({**GEMMA, "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2"}, ("hidden_act", "mlp_bias", "rope_scaling")),
        "gemma3": ({**GEMMA, "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text"}, ("hidden_act", "mlp_bias")),
        "arcee": ({"architectures": ["ArceeForCausalLM"], "model_type": "arcee", "hidden_act": "relu2"}, ()),
        "granite": (
            {
                "architectures": ["GraniteForCausalLM"],
                "model_type": "granite",
                "attention_multiplier": 0.3,
                "embedding_multiplier": 6.0,
                "logits_scaling": 2.5,
                "residual_multiplier": 0.7,
            },
            (),
        ),
        "stablelm": (
            {"architectures": ["StableLmForCausalLM"], "model_type": "stablelm", "layer_norm_eps": 1e-05},
            ("attention_bias", "mlp_bias", "rms_norm_eps"),
        ),
        "lfm2": (
            {"architectures": ["Lfm2ForCausalLM"], "model_type": "lfm2", "norm_eps": 1e-05, "pad_token_id": 0},
            ("attention_bias", "hidden_act", "mlp_bias", "rms_norm_eps", "rope_scaling"),
        ),
        "ministral3": (
            {"architectures": ["Ministral3ForCausalLM"], "head_dim": 32, "model_type": "ministral3", "pad_token_id": 0, "sliding_window": None},
            ("attention_bias", "mlp_bias", "rope_scaling", "rope_theta"),
        ),
        "qwen3_5": (
            {
                "architectures": ["Qwen3_5ForCausalLM"],
                "full_attention_interval": 4,
                "head_dim": 32,
                "linear_conv_kernel_dim": 4,
                "linear_key_head_dim": 16,
                "linear_num_key_heads": 2,
                "linear_num_value_heads": 4,
                "linear_value_head_dim": 32,
                "model_type": "qwen3_5_text",
                "num_hidden_layers": 4,
                "rms_norm_eps": 1e-06,
            },
            ("mlp_bias", "rope_scaling", "rope_theta"),
        ),
        "exaone4": (
            {"architectures": ["Exaone4ForCausalLM"], "model_type": "exaone4", "pad_token_id": 0, "sliding_window": 24},
            ("attention_bias", "mlp_bias"),
        ),
        "cohere2": (
            {
                "architectures": ["Cohere2ForCausalLM"],
                "layer_norm_eps": 1e-05,
                "logit_scale": 0.5,
                "model_type": "cohere2",
                "pad_token_id": 0,
                "sliding_window": 24,
            },
            ("mlp_bias", "rms_norm_eps"),
        ),
        "cohere": (
            {
                "architectures": ["CohereForCausalLM"],
                "layer_norm_eps": 1e-05,
                "logit_scale": 0.5,
                "model_type": "cohere",
                "pad_token_id": 0,
            },
            ("mlp_bias", "rms_norm_eps"),
        ),
        "granitemoehybrid": (
            {
                "architectures": ["GraniteMoeHybridForCausalLM"],
                "attention_multiplier": 0.3,
                "embedding_multiplier": 6.0,
                "layer_types": ["attention", "attention"],
                "logits_scaling": 2.5,
                "model_type": "granitemoehybrid",
                "num_experts_per_tok": 0,
                "num_local_experts": 0,
                "position_embedding_type": "rope",
                "residual_multiplier": 0.7,
                "shared_intermediate_size": 80,
            },
            ("mlp_bias",),
        ),
        "ernie4_5": (
            {"architectures": ["Ernie4_5ForCausalLM"], "head_dim": 32, "model_type": "ernie4_5", "pad_token_id": 0, "use_bias": False},
            ("attention_bias", "mlp_bias"),
        ),
        "helium": (
            {"architectures": ["HeliumForCausalLM"], "head_dim": 16, "model_type": "helium", "pad_token_id": 0, "rms_norm_eps": 1e-08},
            (),
        ),
        "glm": (
            {"architectures": ["GlmForCausalLM"], "head_dim": 32, "model_type": "glm", "pad_token_id": 0},
            ("mlp_bias",),
        ),
        "glm4": (
            {"architectures": ["Glm4ForCausalLM"], "head_dim": 32, "model_type": "glm4", "pad_token_id": 0},
            ("mlp_bias",),
        ),
        "phi3": (
            {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "pad_token_id": 0, "sliding_window": None},
            ("attention_bias", "mlp_bias"),
        ),
    }
)
ONE_PLUS = ("gemma2", "gemma3", "qwen3_5")  # their norms multiply by one and the weight

NORMED_AFTER = ("gemma2", "gemma3")  # norms stand behind what writes to the residual stream
NEWER = ("ministral3", "qwen3_5")  # known to transformers 5 only: made with requirements-5.txt

DTYPE_NAMES = {torch.float16: "float16", torch.bfloat16: "bfloat16", torch.float32: "float32"}

Weights = dict[str, torch.Tensor]
Mistake = Callable[[dict, Weights], tuple[dict, Weights]]


@dataclasses.dataclass
class Variant:
    """One directory: what differs from BASE, and how its weights are drawn.

    `config` is laid over BASE and what FAMILIES says of `family`; keys in `absent` are then left out of config.json,
    for transformers has a default.
    """

    config: dict
    dtype: torch.dtype = torch.float16
    family: str = "llama"
    positions: int = 180
    absent: tuple[str, ...] = ()
    embedding_deviation: float = 0.3
    output_scale: float = 1.0  # of o_proj and down_proj, or the norms behind them: what writes to the residual stream
    shards: int = 1
    mistake: Mistake | None = None
    residual_peak: float = 0.0  # the residual stream must reach this
    beyond_float16: bool = False  # the residual stream may pass the range of float16


def without_rope_scaling(config: dict, weights: Weights) -> tuple[dict, Weights]:
    config = {key: value for key, value in config.items() if key not in ("rope_scaling", "rope_parameters")}
    return config, weights


def without_yarn(config: dict, weights: Weights) -> tuple[dict, Weights]:
    """`yarn` that stretches nothing; the model does not do without its parameters."""
    return {**config, "rope_parameters": {**config["rope_parameters"], "factor": 1.0}}, weights


def with_linear_scaling(config: dict, weights: Weights) -> tuple[dict, Weights]:
    return {**config, "rope_scaling": {"rope_type": "linear", "factor": config["rope_scaling"]["factor"]}}, weights


def without_attention_factor(config: dict, weights: Weights) -> tuple[dict, Weights]:
    return {**config, "rope_scaling": {**config["rope_scaling"], "attention_factor": 1.0}}, weights


def with_default_theta(config: dict, weights: Weights) -> tuple[dict, Weights]:
    return {**config, "rope_theta": 10000.0}, weights


def with_small_epsilon(config: dict, weights: Weights) -> tuple[dict, Weights]:
    return {**config, "rms_norm_eps": 1e-06}, weights


def with_tied_head(config: dict, weights: Weights) -> tuple[dict, Weights]:
    return config, {**weights, "lm_head.weight": weights["model.embed_tokens.weight"]}


def without_biases(where: str) -> Mistake:
    def mistake(config: dict, weights: Weights) -> tuple[dict, Weights]:
        changed = {
            name: torch.zeros_like(value) if name.endswith(".bias") and where in name else value
            for name, value in weights.items()
        }
        return config, changed

    return mistake


def with_short_windows(config: dict, weights: Weights) -> tuple[dict, Weights]:
    """A window that acts, in all layers: what `sliding_window` would do if it were shorter than the context."""
    return {**config, "sliding_window": 8, "max_window_layers": 0, "layer_types": None}, weights


def without_head_norms(config: dict, weights: Weights) -> tuple[dict, Weights]:
    """Only the gains can be overlooked here: what divides by the root of the mean square is the class itself."""
    names = ("q_norm.weight", "k_norm.weight")
    return config, {name: torch.ones_like(value) if name.endswith(names) else value for name, value in weights.items()}


def with_windows_of_the_whole(config: dict, weights: Weights) -> tuple[dict, Weights]:
    return {**config, "sliding_window": 4096}, weights


def with_rotation_everywhere(config: dict, weights: Weights) -> tuple[dict, Weights]:
    return {**config, "no_rope_layers": [1] * config["num_hidden_layers"]}, weights


def with_one_rotation(config: dict, weights: Weights) -> tuple[dict, Weights]:
    return {**config, "rope_local_base_freq": config["rope_theta"], "rope_scaling": None}, weights


def without_caps(config: dict, weights: Weights) -> tuple[dict, Weights]:
    return {**config, "attn_logit_softcapping": None, "final_logit_softcapping": None}, weights


def with_usual_scores(config: dict, weights: Weights) -> tuple[dict, Weights]:
    return {**config, "query_pre_attn_scalar": config["head_dim"]}, weights


def with_the_other_factors(config: dict, weights: Weights) -> tuple[dict, Weights]:
    scaling = config["rope_scaling"]
    swapped = {**scaling, "short_factor": scaling["long_factor"], "long_factor": scaling["short_factor"]}
    return {**config, "rope_scaling": swapped}, weights


def without_factors(config: dict, weights: Weights) -> tuple[dict, Weights]:
    return {**config, "embedding_multiplier": 1.0, "residual_multiplier": 1.0}, weights


def with_another_activation(config: dict, weights: Weights) -> tuple[dict, Weights]:
    return {**config, "hidden_act": "silu"}, weights


def with_one_after_the_other(config: dict, weights: Weights) -> tuple[dict, Weights]:
    gains = {f"model.layers.{layer}.post_attention_layernorm.weight": torch.ones(64) for layer in range(2)}
    biases = {name.replace(".weight", ".bias"): torch.zeros(64) for name in gains}
    return {**config, "use_parallel_residual": False}, {**weights, **gains, **biases}


def without_earlier_columns(config: dict, weights: Weights) -> tuple[dict, Weights]:
    """Convolutions that see the present token alone, as where their state is lost."""
    last = {name: value.clone() for name, value in weights.items() if name.endswith("conv.conv.weight")}
    for value in last.values():
        value[:, :, :-1] = 0
    return config, {**weights, **last}


def without_what_is_remembered(config: dict, weights: Weights) -> tuple[dict, Weights]:
    """Linear attention whose matrices decay at once, as where their state is lost."""
    rates = {name: torch.full_like(value, 8.0) for name, value in weights.items() if name.endswith("A_log")}
    return config, {**weights, **rates}


def with_rotation_in_all_layers(config: dict, weights: Weights) -> tuple[dict, Weights]:
    """Windows that never act, in all layers: those that see all turn like the others."""
    return {**config, "sliding_window": 4096, "layer_types": ["sliding_attention"] * config["num_hidden_layers"]}, weights


def without_rotation(config: dict, weights: Weights) -> tuple[dict, Weights]:
    return {**config, "position_embedding_type": "nope"}, weights


def with_halves_that_turn(config: dict, weights: Weights) -> tuple[dict, Weights]:
    """Rows of each head in the order in which what lies half of the part that turns apart turns together."""
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    turning = int(width * config.get("partial_rotary_factor", 1.0))

    def apart(value: torch.Tensor) -> torch.Tensor:
        heads = value.unflatten(0, (-1, width))
        turned = heads[:, :turning].unflatten(1, (2, turning // 2)).transpose(1, 2).flatten(1, 2)
        return torch.cat([turned, heads[:, turning:]], dim=1).flatten(0, 1)

    return config, {name: apart(value) if ".q_proj." in name or ".k_proj." in name else value for name, value in weights.items()}


def with_norms_of_gemma(config: dict, weights: Weights) -> tuple[dict, Weights]:
    """What attention gives and what the MLP reads, each normalized by the other's gain: Gemma calls them so."""
    names = ("post_self_attn_layernorm", "post_attention_layernorm")
    swap = dict([names, names[::-1]])
    parts = {name: name.split(".") for name in weights}
    other = {name: ".".join(swap.get(part, part) for part in parts[name]) for name in weights}
    return config, {name: weights[other[name]] for name in weights}


def longrope(pairs: int) -> dict:
    return {
        "type": "longrope",
        "short_factor": [1.0 + 0.1 * pair for pair in range(pairs)],
        "long_factor": [1.5 + 0.7 * pair for pair in range(pairs)],
    }


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 64}

SMALL = {"vocab_size": 160}
VARIANTS = {
    "tied": Variant({}, absent=("rope_theta", "rope_scaling")),
    "untied-head-odd-vocab": Variant(
        {"vocab_size": 301, "tie_word_embeddings": False}, torch.bfloat16, absent=("tie_word_embeddings",), mistake=with_tied_head
    ),
    "attention-bias": Variant({"attention_bias": True}, mistake=without_biases("self_attn.")),
    "mlp-bias": Variant({"mlp_bias": True}, torch.bfloat16, mistake=without_biases("mlp.")),
    "all-biases": Variant({"attention_bias": True, "mlp_bias": True}, mistake=without_biases("o_proj")),
    "head-dim-apart": Variant({"head_dim": 32}, torch.bfloat16),
    # Llama 1 files have no num_key_value_heads: then there are as many as heads.
    "mha": Variant({"num_key_value_heads": 4}, absent=("num_key_value_heads",)),
    "mqa": Variant({"num_key_value_heads": 1}, torch.bfloat16),
    "large-eps": Variant(
        {"rms_norm_eps": 1e-3, "tie_word_embeddings": False}, embedding_deviation=0.02, output_scale=0.1, mistake=with_small_epsilon
    ),
    "sharded": Variant({"tie_word_embeddings": False}, torch.bfloat16, shards=3, mistake=with_tied_head),
    "float32-weights": Variant({"intermediate_size": 64}, torch.float32),
    "large-residual": Variant(
        {"tie_word_embeddings": False}, embedding_deviation=900.0, output_scale=500.0, residual_peak=3000.0
    ),
    # A whole number in JSON, as several published models have it.
    "rope-theta-500000": Variant({"rope_theta": 500000}, mistake=with_default_theta),
    "rope-linear": Variant({"rope_scaling": {"type": "linear", "factor": 4.0}}, mistake=without_rope_scaling),
    "rope-dynamic": Variant({"rope_scaling": {"type": "dynamic", "factor": 4.0}}, torch.bfloat16, mistake=with_linear_scaling),
    "rope-llama3": Variant(
        {
            "rope_scaling": {
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
                "rope_type": "llama3",
            },
            "max_position_embeddings": 512,
        },
        positions=200,
        mistake=without_rope_scaling,
    ),
    "rope-yarn": Variant(
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}},
        torch.bfloat16,
        positions=200,
        mistake=without_attention_factor,
    ),
    "rope-yarn-betas": Variant(
        {
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 64,
                "beta_fast": 8.0,
                "beta_slow": 0.5,
                "attention_factor": 1.4,
            }
        },
        positions=200,
        mistake=without_attention_factor,
    ),
    "rope-yarn-mscale": Variant(
        {
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 64,
                "mscale": 2.0,
                "mscale_all_dim": 0.5,
                "truncate": False,
            }
        },
        torch.bfloat16,
        positions=200,
        mistake=without_attention_factor,
    ),
    # How transformers 5 writes config.json: neither rope_theta nor rope_scaling.
    "rope-parameters-llama3": Variant(
        {
            "rope_parameters": {
                "factor": 4.0,
                "high_freq_factor": 4.0,
                "low_freq_factor": 1.0,
                "original_max_position_embeddings": 64,
                "rope_theta": 50000.0,
                "rope_type": "llama3",
            }
        },
        torch.bfloat16,
        absent=("rope_theta", "rope_scaling"),
        positions=200,
        mistake=without_rope_scaling,
    ),
    "rope-parameters-default": Variant(
        {"rope_parameters": {"rope_theta": 300.0, "rope_type": "default"}},
        absent=("rope_theta", "rope_scaling"),
        mistake=without_rope_scaling,
    ),
    # num_key_value_heads is absent: 8 for Mistral.
    "mistral": Variant(
        {"num_attention_heads": 8, "head_dim": 16, "tie_word_embeddings": False},
        torch.bfloat16,
        family="mistral",
        absent=("num_key_value_heads", "rope_scaling"),
    ),
    # Windows that cannot act within a context of 256: as long as it is, or in no layer.
    "mistral-window": Variant(
        {"num_key_value_heads": 2, "sliding_window": 256, "vocab_size": 160},
        family="mistral",
        positions=120,
        absent=("rope_scaling",),
        mistake=with_short_windows,
    ),
    "qwen2-window-in-no-layer": Variant(
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2, "vocab_size": 160},
        torch.bfloat16,
        family="qwen2",
        positions=120,
        mistake=with_short_windows,
    ),
    "qwen3-window-in-one-layer": Variant(
        {
            "use_sliding_window": True,
            "sliding_window": 256,
            "layer_types": ["full_attention", "sliding_attention"],
            "vocab_size": 160,
        },
        family="qwen3",
        positions=120,
        mistake=with_short_windows,
    ),
    "qwen2-tied": Variant({}, family="qwen2", mistake=without_biases("self_attn.")),
    # Neither rope_theta (10000) nor rms_norm_eps (1e-6), tie_word_embeddings (false) or the keys of windows.
    "qwen2-defaults-odd-vocab": Variant(
        {"vocab_size": 301, "tie_word_embeddings": False},
        torch.bfloat16,
        family="qwen2",
        absent=(
            "tie_word_embeddings", "rope_theta", "rms_norm_eps", "sliding_window", "use_sliding_window", "max_window_layers",
        ),
        mistake=with_tied_head,
    ),
    "qwen2-head-dim-apart": Variant({"head_dim": 32}, torch.bfloat16, family="qwen2", mistake=without_biases("k_proj")),
    "qwen2-rope-yarn": Variant({"rope_scaling": YARN}, family="qwen2", positions=200, mistake=without_rope_scaling),
    "qwen2-rope-parameters-llama3": Variant(
        {"rope_parameters": {**LLAMA3, "rope_theta": 50000.0}},
        torch.bfloat16,
        family="qwen2",
        absent=("rope_theta",),
        positions=200,
        mistake=without_rope_scaling,
    ),
    "qwen3-tied": Variant({}, family="qwen3", mistake=without_head_norms),
    # num_key_value_heads null is as many as heads; layer_types as newer files have them.
    "qwen3-attention-bias": Variant(
        {
            "attention_bias": True,
            "layer_types": ["full_attention", "full_attention"],
            "num_key_value_heads": None,
            "tie_word_embeddings": False,
        },
        family="qwen3",
        embedding_deviation=0.6,
        mistake=without_biases("o_proj"),
    ),
    # head_dim is absent: 128, not hidden / heads.
    "qwen3-defaults-odd-vocab": Variant(
        {"vocab_size": 301, "tie_word_embeddings": False, "num_attention_heads": 2, "num_key_value_heads": 1},
        torch.bfloat16,
        family="qwen3",
        absent=("head_dim", "attention_bias", "tie_word_embeddings", "rope_scaling", "use_sliding_window"),
        mistake=with_tied_head,
    ),
    "qwen3-rope-linear": Variant(
        {"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_theta": 10000.0},
        torch.bfloat16,
        family="qwen3",
        mistake=without_rope_scaling,
    ),
    "qwen3-rope-yarn": Variant({"rope_scaling": YARN, "num_key_value_heads": 1}, family="qwen3", positions=200, mistake=without_rope_scaling),
    # Windows that act, in all layers and in one.
    "mistral-short-window": Variant(
        {**SMALL, "num_key_value_heads": 2, "sliding_window": 24},
        family="mistral",
        positions=120,
        absent=("rope_scaling",),
        mistake=with_windows_of_the_whole,
    ),
    "qwen3-short-window-in-one-layer": Variant(
        {**SMALL, "use_sliding_window": True, "sliding_window": 9, "layer_types": ["sliding_attention", "full_attention"]},
        torch.bfloat16,
        family="qwen3",
        positions=120,
        mistake=with_windows_of_the_whole,
    ),
    # Every third layer has no rotation, and no list says so.
    "smollm3": Variant(
        {**SMALL, "no_rope_layer_interval": 3, "num_hidden_layers": 3, "rope_theta": 2000.0},
        torch.bfloat16,
        family="smollm3",
        positions=120,
        absent=("tie_word_embeddings", "rope_scaling"),
        mistake=with_rotation_everywhere,
    ),
    "smollm3-listed": Variant(
        {
            **SMALL,
            "no_rope_layers": [0, 1],
            "layer_types": ["full_attention", "sliding_attention"],
            "sliding_window": 24,
            "use_sliding_window": True,
            "attention_bias": True,
        },
        family="smollm3",
        positions=120,
        mistake=with_rotation_everywhere,
    ),
    "olmo2": Variant(SMALL, torch.bfloat16, family="olmo2", positions=120, absent=("rope_scaling",), mistake=without_head_norms),
    # By default every fourth layer sees all; the others have a window, and no scaling.
    "olmo3": Variant(
        {**SMALL, "num_hidden_layers": 4, "rope_scaling": YARN, "intermediate_size": 64},
        family="olmo3",
        positions=120,
        mistake=without_rope_scaling,
    ),
    "gemma2": Variant(
        {**SMALL, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0},
        torch.bfloat16,
        family="gemma2",
        positions=120,
        absent=("tie_word_embeddings",),
        mistake=without_caps,
    ),
    # Two rotations: the one of all but every third layer has a base of its own.
    "gemma3": Variant(
        {
            **SMALL,
            "num_hidden_layers": 3,
            "rope_local_base_freq": 100.0,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            "rope_theta": 10000.0,
            "sliding_window_pattern": 3,
        },
        torch.bfloat16,
        family="gemma3",
        positions=120,
        mistake=with_one_rotation,
    ),
    # The residual stream leaves the range of float16.
    "gemma3-large-stream": Variant(
        {
            **SMALL,
            "final_logit_softcapping": 30.0,
            "layer_types": ["full_attention", "sliding_attention"],
            "tie_word_embeddings": False,
        },
        family="gemma3",
        positions=120,
        embedding_deviation=4000.0,
        output_scale=30000.0,
        residual_peak=100000.0,
        beyond_float16=True,
        mistake=with_usual_scores,
    ),
    # Factors for short texts: the context is as long as that of pretraining.
    "phi3-short-factors": Variant(
        {
            **SMALL,
            "original_max_position_embeddings": 256,
            "max_position_embeddings": 1024,
            "partial_rotary_factor": 0.75,
            "rope_scaling": longrope(6),
        },
        torch.bfloat16,
        family="phi3",
        positions=120,
        mistake=with_the_other_factors,
    ),
    "phi3-long-factors": Variant(
        {**SMALL, "original_max_position_embeddings": 64, "rope_scaling": longrope(8), "tie_word_embeddings": False},
        family="phi3",
        positions=120,
        mistake=with_the_other_factors,
    ),
    "arcee": Variant(SMALL, torch.bfloat16, family="arcee", positions=120, mistake=with_another_activation),
    "gelu": Variant({**SMALL, "hidden_act": "gelu"}, positions=120, mistake=with_another_activation),
    "granite": Variant(SMALL, family="granite", positions=120, mistake=without_factors),
    # A quarter of each head is rotated.
    "stablelm": Variant(
        {**SMALL, "num_key_value_heads": 2, "use_qkv_bias": True},
        torch.bfloat16,
        family="stablelm",
        positions=120,
        mistake=without_biases("layernorm"),
    ),
    "stablelm-parallel": Variant(
        {**SMALL, "num_key_value_heads": 2, "partial_rotary_factor": 0.5, "use_parallel_residual": True},
        family="stablelm",
        positions=120,
        mistake=with_one_after_the_other,
    ),
    # Queries are scaled from position 256 on.
    "ministral3": Variant(
        {
            **SMALL,
            "max_position_embeddings": 1024,
            "rope_parameters": {
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "factor": 4.0,
                "llama_4_scaling_beta": 0.1,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "original_max_position_embeddings": 256,
                "rope_theta": 1000.0,
                "rope_type": "yarn",
                "type": "yarn",
            },
        },
        torch.bfloat16,
        family="ministral3",
        positions=120,
        mistake=without_yarn,
    ),
    # The MLP is as wide as two thirds of what is given, rounded up.
    "lfm2": Variant(
        {
            **SMALL,
            "block_ff_dim": 136,
            "block_multiple_of": 32,
            "layer_types": ["conv", "full_attention", "conv"],
            "num_hidden_layers": 3,
        },
        torch.bfloat16,
        family="lfm2",
        positions=120,
        absent=("intermediate_size", "tie_word_embeddings"),
        mistake=without_earlier_columns,
    ),
    # A chunk without attention, and one without a convolution.
    "lfm2-biases": Variant(
        {
            **SMALL,
            "block_auto_adjust_ff_dim": False,
            "conv_L_cache": 4,
            "conv_bias": True,
            "full_attn_idxs": [1],
        },
        family="lfm2",
        positions=120,
        mistake=without_biases("conv.conv"),
    ),
    # Six rows of a state's heads are the columns of a convolution.
    "qwen3_5": Variant(
        {
            "vocab_size": 128,
            "rope_parameters": {
                "mrope_interleaved": True,
                "mrope_section": [2, 1, 1],
                "partial_rotary_factor": 0.25,
                "rope_theta": 10000,
                "rope_type": "default",
            },
        },
        torch.bfloat16,
        family="qwen3_5",
        positions=120,
        output_scale=0.5,
        mistake=without_what_is_remembered,
    ),
    # As many key heads as value heads; columns that fill no whole rows; biases; half of a head turns.
    "qwen3_5-untied": Variant(
        {
            **SMALL,
            "attention_bias": True,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "linear_conv_kernel_dim": 3,
            "linear_key_head_dim": 24,
            "linear_num_key_heads": 3,
            "linear_num_value_heads": 3,
            "num_hidden_layers": 3,
            "rope_parameters": {"partial_rotary_factor": 0.5, "rope_theta": 10000, "rope_type": "default"},
            "tie_word_embeddings": False,
        },
        family="qwen3_5",
        positions=120,
        absent=("full_attention_interval",),
        mistake=without_biases("o_proj"),
    ),
    # Every third layer sees all, and knows no positions.
    "exaone4": Variant(
        {**SMALL, "num_hidden_layers": 3, "sliding_window_pattern": 3, "rope_theta": 1000.0},
        torch.bfloat16,
        family="exaone4",
        positions=120,
        mistake=with_rotation_in_all_layers,
    ),
    # Every fourth layer sees all, by default, and knows no positions.
    "cohere2": Variant(
        {**SMALL, "num_hidden_layers": 4, "intermediate_size": 64},
        torch.bfloat16,
        family="cohere2",
        positions=120,
        mistake=with_rotation_in_all_layers,
    ),
    "cohere": Variant(
        {**SMALL, "attention_bias": True, "tie_word_embeddings": False},
        family="cohere",
        positions=120,
        mistake=with_halves_that_turn,
    ),
    "granite-4": Variant(SMALL, torch.bfloat16, family="granitemoehybrid", positions=120, mistake=without_rotation),
    "ernie4_5": Variant({**SMALL, "use_bias": True}, torch.bfloat16, family="ernie4_5", positions=120, mistake=with_halves_that_turn),
    "helium": Variant(
        {**SMALL, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False},
        family="helium",
        positions=120,
        mistake=with_halves_that_turn,
    ),
    # A quarter of each head turns; no biases.
    "glm": Variant(
        {**SMALL, "partial_rotary_factor": 0.25, "tie_word_embeddings": False},
        family="glm",
        positions=120,
        mistake=with_halves_that_turn,
    ),
    # A half of each head turns, and there are biases, by default.
    "glm4": Variant(
        {**SMALL, "tie_word_embeddings": False},
        torch.bfloat16,
        family="glm4",
        positions=120,
        absent=("attention_bias", "rope_scaling"),
        mistake=with_norms_of_gemma,
    ),
    "phi3-window": Variant(
        {**SMALL, "num_key_value_heads": None, "sliding_window": 24},
        family="phi3",
        positions=120,
        mistake=with_windows_of_the_whole,
    ),
}


def config_of(variant: Variant) -> dict:
    """The contents of config.json. The new spelling also names the dtype in the new way."""
    dtype_key = "dtype" if "rope_parameters" in variant.config else "torch_dtype"
    changes, absent = FAMILIES[variant.family]
    base = {key: value for key, value in {**BASE, **changes}.items() if key not in absent}
    config = {**base, **variant.config, dtype_key: DTYPE_NAMES[variant.dtype]}
    return {key: config[key] for key in sorted(config) if key not in variant.absent}


def reference_model(config: dict, weights: Weights | None) -> PreTrainedModel:
    """The transformers model of config.json's contents, with `weights` widened to float32 where given."""
    values = reference_logits.spelling_of_this_version(config)
    values.pop("torch_dtype", None)
    values.pop("dtype", None)
    torch.manual_seed(0)
    config_object = AutoConfig.for_model(values.pop("model_type"), **values)
    model = AutoModelForCausalLM.from_config(config_object, torch_dtype=torch.float32, attn_implementation="eager")
    if weights is not None:
        wide = {name: value.float() for name, value in weights.items()}
        if model.config.tie_word_embeddings:
            wide["lm_head.weight"] = wide["model.embed_tokens.weight"]
        model.load_state_dict(wide, strict=True)
    return model.eval()


def draw_weights(name: str, variant: Variant) -> Weights:
    """Random weights, rounded to the variant's dtype, under Hugging Face's names. Seeded by the variant's name."""
    generator = torch.Generator().manual_seed(int.from_bytes(name.encode(), "little") % (2**62))
    weights = {}
    model = reference_model(config_of(variant), None)
    for key, value in sorted(model.state_dict().items()):
        if key == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        noise = torch.randn(value.shape, generator=generator)
        if key.endswith("norm.weight"):
            drawn = 1.0 + 0.2 * noise
            if key.endswith("linear_attn.norm.weight"):
                drawn += 1.0  # taken off again below: this one is a gain as it is
            if "_layernorm" in key and key.split(".")[-2].startswith("post_") and variant.family in NORMED_AFTER:
                drawn *= variant.output_scale
            if variant.family in ONE_PLUS:
                drawn -= 1.0
        elif key.endswith(".bias"):
            drawn = 0.5 * noise
        elif key.endswith(("A_log", "dt_bias")):
            drawn = noise - 1.0  # some heads remember for long, some shortly
        elif key == "model.embed_tokens.weight":
            drawn = variant.embedding_deviation * noise
        elif key == "lm_head.weight":
            drawn = 0.3 * noise
        else:
            # Attention scores and gates then vary by about one, so that positions and activations matter.
            drawn = 1.2 / math.sqrt(value.shape[1]) * noise
            if key.endswith(("o_proj.weight", "out_proj.weight", "down_proj.weight")) and variant.family not in NORMED_AFTER:
                drawn *= variant.output_scale
        weights[key] = drawn.to(variant.dtype).contiguous()
    return weights


def write_weights(directory: pathlib.Path, weights: Weights, shards: int) -> None:
    """Write model.safetensors, or `shards` files of about equal size with model.safetensors.index.json."""
    if shards == 1:
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
        return
    total = sum(value.nbytes for value in weights.values())
    places: list[Weights] = [{} for _ in range(shards)]
    written = 0
    for name, value in weights.items():
        places[min(shards - 1, written * shards // total)][name] = value
        written += value.nbytes
    index = {}
    for number, place in enumerate(places, start=1):
        file_name = f"model-{number:05}-of-{shards:05}.safetensors"
        if not place:
            raise SystemExit(f"error: {directory / file_name} would be empty: use fewer shards")
        save_file(place, directory / file_name, metadata={"format": "pt"})
        index.update(dict.fromkeys(place, file_name))
    value = {"metadata": {"total_size": total}, "weight_map": dict(sorted(index.items()))}
    write_json(directory / "model.safetensors.index.json", value)


def draw_ids(name: str, variant: Variant) -> numpy.ndarray:
    """Random token ids, int32 [positions]; they are drawn with repeats, so that attention has something to find."""
    random = numpy.random.default_rng(list(name.encode()))
    vocabulary = {**BASE, **variant.config}["vocab_size"]
    fresh = random.integers(0, vocabulary, variant.positions)
    for position in range(20, variant.positions):
        if random.random() < 0.3:
            fresh[position] = fresh[position - int(random.integers(1, 20))]
    return fresh.astype(numpy.int32)


def largest_values(model: PreTrainedModel, ids: numpy.ndarray) -> tuple[float, float]:
    """The largest |value| of the residual stream, and of any layer's output or product, over all positions."""
    anywhere = 0.0

    def see(_module: object, _inputs: object, output: object) -> None:
        nonlocal anywhere
        for value in output if isinstance(output, tuple) else (output,):
            if isinstance(value, torch.Tensor):
                anywhere = max(anywhere, float(value.abs().max()))

    handles = [module.register_forward_hook(see) for module in model.modules() if module is not model]
    with torch.no_grad():
        result = model.model(torch.from_numpy(ids.astype(numpy.int64))[None], output_hidden_states=True, use_cache=False)
    for handle in handles:
        handle.remove()
    residual = max(float(hidden.abs().max()) for hidden in result.hidden_states)
    return residual, anywhere


def examine(name: str, variant: Variant, config: dict, weights: Weights, ids: numpy.ndarray) -> tuple[numpy.ndarray, str]:
    """The variant's reference logits, float32 [T, vocabulary], and a line about them; refuse what would prove nothing."""
    model = reference_model(config, weights)
    logits = reference_logits.compute_logits(model, ids)
    residual, anywhere = largest_values(model, ids)
    distinct = len(numpy.unique(logits.argmax(axis=1)))
    if distinct < len(ids) // 8:
        raise SystemExit(f"error: {name}: only {distinct} tokens are ever the likeliest: change its weights' deviations")
    if (anywhere >= FLOAT16_LARGEST and not variant.beyond_float16) or not numpy.isfinite(logits).all():
        raise SystemExit(f"error: {name}: values reach {anywhere:.0f}, beyond float16: scale its weights down")
    if residual < variant.residual_peak:
        raise SystemExit(f"error: {name}: the residual stream reaches only {residual:.0f}: scale its weights up")
    line = f"spread {logits.std():.2f}, {distinct} likeliest tokens, residual peak {residual:.1f}"
    if variant.mistake is not None:
        wrong = reference_logits.compute_logits(reference_model(*variant.mistake(config, weights)), ids)
        effect = float(numpy.abs(wrong - logits).mean())
        if effect < SMALLEST_EFFECT:
            raise SystemExit(f"error: {name}: overlooking its feature changes the logits by only {effect:.3f}: choose other numbers")
        line += f", overlooking the feature costs {effect:.2f}"
    return logits, line


def write(name: str, variant: Variant, directory: pathlib.Path) -> str:
    """Write one variant's directory anew; return a line about it."""
    if directory.exists():
        shutil.rmtree(directory)
    golden = directory / "golden"
    golden.mkdir(parents=True)
    config, weights, ids = config_of(variant), draw_weights(name, variant), draw_ids(name, variant)
    logits, line = examine(name, variant, config, weights, ids)
    write_json(directory / "config.json", config)
    write_weights(directory, weights, variant.shards)
    numpy.save(golden / "ids.npy", ids)
    numpy.save(golden / "logits.npy", logits.astype(numpy.float16))
    # What counts is the directory as others will load it.
    again = reference_logits.compute_logits(reference_logits.load_model(directory), ids)
    if not numpy.array_equal(again, logits):
        raise SystemExit(f"error: {name}: the written directory gives other logits than the model in memory")
    size = sum(path.stat().st_size for path in directory.glob("*.*"))
    golden_size = sum(path.stat().st_size for path in golden.iterdir())
    return f"{name}: {size} + {golden_size} bytes, {DTYPE_NAMES[variant.dtype]}, {line}"


def check(name: str, variant: Variant, directory: pathlib.Path) -> list[str]:
    """Make one variant in a temporary directory, and compare with what is stored; return what differs."""
    problems = []
    if not (directory / "golden" / "logits.npy").is_file():
        return [f"{directory} has no golden/logits.npy: make it with --only {name}"]
    with tempfile.TemporaryDirectory() as temporary:
        fresh = pathlib.Path(temporary) / name
        write(name, variant, fresh)
        if json.loads((fresh / "config.json").read_text()) != json.loads((directory / "config.json").read_text()):
            problems.append("config.json changes")
        for path in sorted(fresh.glob("*.safetensors*")):
            if not (directory / path.name).is_file() or path.read_bytes() != (directory / path.name).read_bytes():
                problems.append(f"{path.name} changes")
        ids = numpy.load(directory / "golden" / "ids.npy")
        if not numpy.array_equal(ids, numpy.load(fresh / "golden" / "ids.npy")):
            problems.append("golden/ids.npy changes")
    # The stored weights with the stored ids: independent of how this version of torch draws random numbers.
    logits = reference_logits.compute_logits(reference_logits.load_model(directory), ids)
    stored = numpy.load(directory / "golden" / "logits.npy")
    difference = reference_logits.difference_beyond_rounding(stored, logits)
    if stored.shape != logits.shape or difference > GOLDEN_TOLERANCE:
        problems.append(f"golden/logits.npy changes by {difference:.2e}")
    return problems


def main() -> None:
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, default=here.parent / "models" / "variants", help="where the directories go")
    known = [name for name, variant in VARIANTS.items() if (variant.family in NEWER) == (reference_logits.VERSION >= 5)]
    parser.add_argument("--only", nargs="+", choices=sorted(known), default=known, help="make just these")
    parser.add_argument("--check", action="store_true", help="write nothing: fail if a stored file would change")
    arguments = parser.parse_args()
    reference_logits.use_threads(1)
    failed = False
    for name in arguments.only:
        directory = arguments.output / name
        if arguments.check:
            problems = check(name, VARIANTS[name], directory)
            failed = failed or bool(problems)
            print(f"FAIL {name}: {'; '.join(problems)}" if problems else f"ok   {name}", flush=True)
        else:
            print(write(name, VARIANTS[name], directory), flush=True)
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
