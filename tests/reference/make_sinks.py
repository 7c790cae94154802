"""Make ../models/parts/sinks: a small model whose attention has sinks, with transformers' logits.

    python make_sinks.py            # writes it
    python make_sinks.py --check    # writes nothing; fails if the logits would change

Of transformers' families only GPT-OSS has sinks, and it is a mixture of experts. So the model is a Llama whose attention
and rotation are GPT-OSS's own, `GptOssAttention` and `GptOssRotaryEmbedding`, run eagerly in float32. The
directory holds config.json under the model type `sinks`, which a test knows, the weights, and
golden/ as make_variants.py writes it.
"""

import argparse
import json
import pathlib

import numpy
import torch
from safetensors.torch import load_file, save_file
from transformers import GptOssConfig, LlamaConfig, LlamaForCausalLM
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssAttention, GptOssRotaryEmbedding

import reference_logits
from reference_json import write_json

DIRECTORY = pathlib.Path(__file__).resolve().parent.parent / "models" / "parts" / "sinks"
POSITIONS = 96
SMALLEST_EFFECT = 0.1  # mean |change of a logit| where sinks are overlooked
GOLDEN_TOLERANCE = 1e-3

CONFIG = {
    "architectures": ["SinksForCausalLM"],
    "attention_bias": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "head_dim": 16,
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 96,
    "max_position_embeddings": 256,
    "mlp_bias": False,
    "model_type": "sinks",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "vocab_size": 160,
}


def model_of(weights: dict[str, torch.Tensor] | None) -> LlamaForCausalLM:
    """The model, with these weights widened to float32 where given."""
    values = {key: value for key, value in CONFIG.items() if key not in ("architectures", "model_type", "torch_dtype")}
    config = LlamaConfig(**values, attn_implementation="eager")
    shared = {key: value for key, value in values.items() if key in GptOssConfig().to_dict()}
    own = GptOssConfig(**shared, rope_scaling=None, attn_implementation="eager", layer_types=["full_attention"] * 2)
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    model.model.rotary_emb = GptOssRotaryEmbedding(own)
    for number, layer in enumerate(model.model.layers):
        layer.self_attn = GptOssAttention(own, number)
    if weights is not None:
        wide = {name: value.float() for name, value in weights.items()}
        wide["lm_head.weight"] = wide["model.embed_tokens.weight"]
        model.load_state_dict(wide, strict=True)
    return model.eval()


def draw() -> dict[str, torch.Tensor]:
    """Random weights, rounded to bfloat16."""
    generator = torch.Generator().manual_seed(11)
    weights = {}
    for name, value in sorted(model_of(None).state_dict().items()):
        if name == "lm_head.weight":
            continue
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith("norm.weight"):
            drawn = 1.0 + 0.2 * noise
        elif name.endswith("sinks"):
            drawn = 3.0 + noise  # as much as twenty tokens whose scores are 0
        elif name.endswith(".bias"):
            drawn = 0.5 * noise
        elif name == "model.embed_tokens.weight":
            drawn = 0.3 * noise
        else:
            drawn = 1.2 / value.shape[1] ** 0.5 * noise
        weights[name] = drawn.to(torch.bfloat16).contiguous()
    return weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the logits would change")
    arguments = parser.parse_args()
    reference_logits.use_threads(1)
    golden = DIRECTORY / "golden"
    if arguments.check:
        ids = numpy.load(golden / "ids.npy")
        weights = load_file(DIRECTORY / "model.safetensors")
        logits = reference_logits.compute_logits(model_of(weights), ids)
        if json.loads((DIRECTORY / "config.json").read_text()) != CONFIG:
            raise SystemExit("error: config.json would change")
        change = numpy.abs(logits - numpy.load(golden / "logits.npy")).max() / numpy.abs(logits).max()
        if not change <= GOLDEN_TOLERANCE:
            raise SystemExit(f"error: the logits would change by {change:.1e}")
        return
    ids = numpy.random.default_rng(11).integers(0, CONFIG["vocab_size"], POSITIONS).astype(numpy.int32)
    weights = draw()
    logits = reference_logits.compute_logits(model_of(weights), ids)
    without = {name: torch.full_like(value, -1e4) if name.endswith("sinks") else value for name, value in weights.items()}
    effect = float(numpy.abs(reference_logits.compute_logits(model_of(without), ids) - logits).mean())
    if effect < SMALLEST_EFFECT:
        raise SystemExit(f"error: overlooking sinks changes the logits by only {effect:.3f}")
    golden.mkdir(parents=True, exist_ok=True)
    write_json(DIRECTORY / "config.json", CONFIG)
    save_file(weights, DIRECTORY / "model.safetensors", metadata={"format": "pt"})
    numpy.save(golden / "ids.npy", ids)
    numpy.save(golden / "logits.npy", logits.astype(numpy.float16))
    print(f"spread {logits.std():.2f}, overlooking sinks costs {effect:.2f}")


if __name__ == "__main__":
    main()
