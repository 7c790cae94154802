"""Writes golden/rope.json: rotary frequencies and angles as transformers computes them.

Run in an environment with torch==2.5.1 and transformers==4.57.1:

    python make_rope_golden.py
"""

import json
import pathlib

import torch
import transformers
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

assert transformers.__version__ == "4.57.1", transformers.__version__

POSITIONS = [0, 1, 2, 63, 64, 255, 511, 1023]

# name, config; every key is one of config.json.
CASES = {
    "default": dict(head_dim=64, rope_theta=10000.0),
    "default_wide": dict(head_dim=128, rope_theta=500000.0),
    "default_small": dict(head_dim=6, rope_theta=100000),
    "linear": dict(head_dim=64, rope_theta=10000.0, rope_scaling=dict(rope_type="linear", factor=4.0)),
    "linear_odd": dict(head_dim=96, rope_theta=10000.0, rope_scaling=dict(type="linear", factor=2.7)),
    "llama3": dict(
        head_dim=64,
        rope_theta=500000.0,
        max_position_embeddings=131072,
        rope_scaling=dict(
            rope_type="llama3",
            factor=32.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=8192,
        ),
    ),
    "llama3_short": dict(
        head_dim=128,
        rope_theta=500000.0,
        max_position_embeddings=1024,
        rope_scaling=dict(
            rope_type="llama3",
            factor=8.0,
            low_freq_factor=1.5,
            high_freq_factor=3.7,
            original_max_position_embeddings=64,
        ),
    ),
    "yarn": dict(
        head_dim=64,
        rope_theta=10000.0,
        max_position_embeddings=1024,
        rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=256),
    ),
    "yarn_unset_original": dict(
        head_dim=128,
        rope_theta=1000000.0,
        max_position_embeddings=32768,
        rope_scaling=dict(rope_type="yarn", factor=4.0),
    ),
    "yarn_attention_factor": dict(
        head_dim=64,
        rope_theta=10000.0,
        max_position_embeddings=2048,
        rope_scaling=dict(
            rope_type="yarn",
            factor=8.0,
            original_max_position_embeddings=256,
            attention_factor=0.9,
            beta_fast=16.0,
            beta_slow=2.0,
        ),
    ),
    "yarn_mscale": dict(
        head_dim=64,
        rope_theta=10000.0,
        max_position_embeddings=163840,
        rope_scaling=dict(
            rope_type="yarn",
            factor=40.0,
            original_max_position_embeddings=4096,
            mscale=0.707,
            mscale_all_dim=1.0,
        ),
    ),
    "yarn_untruncated": dict(
        head_dim=64,
        rope_theta=150000.0,
        max_position_embeddings=131072,
        rope_scaling=dict(
            rope_type="yarn",
            factor=32.0,
            original_max_position_embeddings=4096,
            truncate=False,
        ),
    ),
    "yarn_degenerate": dict(
        head_dim=32,
        rope_theta=10000.0,
        max_position_embeddings=16,
        rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=4),
    ),
    "yarn_factor_below_one": dict(
        head_dim=32,
        rope_theta=10000.0,
        max_position_embeddings=512,
        rope_scaling=dict(rope_type="yarn", factor=0.5, original_max_position_embeddings=512),
    ),
    "dynamic_within": dict(
        head_dim=64,
        rope_theta=10000.0,
        max_position_embeddings=1024,
        rope_scaling=dict(rope_type="dynamic", factor=2.0),
    ),
}


def main():
    cases = []
    for name, keys in CASES.items():
        keys = dict(keys)
        heads = 2
        config = LlamaConfig(
            hidden_size=heads * keys["head_dim"], num_attention_heads=heads, **json.loads(json.dumps(keys))
        )
        rotary = LlamaRotaryEmbedding(config)
        positions = torch.tensor([POSITIONS])
        cosine, sine = rotary(torch.zeros(1, dtype=torch.float32), positions)
        cases.append(
            dict(
                name=name,
                config=keys,
                inverse=rotary.inv_freq.tolist(),
                attention_scaling=float(rotary.attention_scaling),
                cosine=cosine[0, :, : keys["head_dim"] // 2].tolist(),
                sine=sine[0, :, : keys["head_dim"] // 2].tolist(),
            )
        )
    path = pathlib.Path(__file__).parent / "golden" / "rope.json"
    lines = ",\n".join(json.dumps(case) for case in cases)
    versions = json.dumps(dict(transformers=transformers.__version__, torch=torch.__version__.split("+")[0]))
    path.write_text(
        f'{{"versions": {versions},\n"positions": {json.dumps(POSITIONS)},\n"cases": [\n{lines}\n]}}\n'
    )


if __name__ == "__main__":
    main()
