"""Write a model with Qwen3-0.6B's sizes and random weights, for measures of speed and memory.

    python make_random_qwen3.py --output DIR [--seed N]

The directory has config.json and model.safetensors (bfloat16, 1.2 GB), no tokenizer. What such a model says is noise.
"""

import argparse
import pathlib

import torch
from safetensors.torch import save_file

from reference_json import write_json

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 1024,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "max_position_embeddings": 40960,
    "max_window_layers": 28,
    "model_type": "qwen3",
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}


def shapes() -> dict[str, list[int]]:
    """The shape of every tensor, by name."""
    hidden, inner, width = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["head_dim"]
    queries, keys = CONFIG["num_attention_heads"] * width, CONFIG["num_key_value_heads"] * width
    found = {"model.embed_tokens.weight": [CONFIG["vocab_size"], hidden], "model.norm.weight": [hidden]}
    for layer in range(CONFIG["num_hidden_layers"]):
        parts = {
            "input_layernorm": [hidden],
            "mlp.down_proj": [hidden, inner],
            "mlp.gate_proj": [inner, hidden],
            "mlp.up_proj": [inner, hidden],
            "post_attention_layernorm": [hidden],
            "self_attn.k_norm": [width],
            "self_attn.k_proj": [keys, hidden],
            "self_attn.o_proj": [hidden, queries],
            "self_attn.q_norm": [width],
            "self_attn.q_proj": [queries, hidden],
            "self_attn.v_proj": [keys, hidden],
        }
        found.update({f"model.layers.{layer}.{name}.weight": shape for name, shape in parts.items()})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, required=True, help="the directory to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(arguments.seed)
    weights = {}
    for name, shape in shapes().items():
        if name.endswith("norm.weight"):
            drawn = torch.ones(shape)
        else:
            drawn = CONFIG["initializer_range"] * torch.randn(shape, generator=generator)
        weights[name] = drawn.to(torch.bfloat16)
    arguments.output.mkdir(parents=True, exist_ok=True)
    save_file(weights, arguments.output / "model.safetensors", metadata={"format": "pt"})
    write_json(arguments.output / "config.json", CONFIG)
    print(f"{arguments.output}: {sum(value.numel() for value in weights.values())} parameters")


if __name__ == "__main__":
    main()
