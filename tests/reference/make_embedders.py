"""Write the very small models below tests/models/embedders, which give vectors, with the vectors of transformers
and sentence-transformers.

    python make_embedders.py [--check]

Each directory is laid out as sentence-transformers does: config.json and weights (random, seeded) of the model,
modules.json, and a folder for each module behind it. golden/vectors.json has texts as token ids, of 1 token to more
than a batch, each with its vector: hidden states of transformers (float32, CPU, eager) from the weights rounded to
their dtype, then Pooling, Dense and Normalize of sentence-transformers (`pip install sentence-transformers==5.1.2`).

Each model names *mistakes*: what a converter that overlooks a part would compute. The script refuses to write a
model whose vectors a mistake hardly changes.
"""

import argparse
import json
import pathlib
import shutil
import sys
import tempfile

import numpy
import torch
from safetensors.torch import save_file
from sentence_transformers.models import Dense, Normalize, Pooling
from transformers import AutoConfig, AutoModel
from transformers.models.gemma3.modeling_gemma3 import _bidirectional_window_overlay

from reference_json import write_json

OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "models" / "embedders"
LENGTHS = [1, 5, 32, 33, 64, 90]
TOLERANCE = 1e-4
LARGEST_COSINE = 0.999  # of a mistake's vector with the right one, for some text

BASE = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "head_dim": 32,
    "hidden_size": 64,
    "intermediate_size": 96,
    "max_position_embeddings": 256,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "vocab_size": 304,
}
MODELS = {
    "qwen3-last": {
        "config": {
            **BASE,
            "architectures": ["Qwen3ForCausalLM"],
            "attention_bias": False,
            "hidden_act": "silu",
            "model_type": "qwen3",
            "rope_scaling": None,
            "rope_theta": 1000000.0,
            "sliding_window": None,
            "tie_word_embeddings": False,  # and no head is stored
            "use_sliding_window": False,
        },
        "pooling": "lasttoken",
        "dense": [],
        "normalize": True,
        "mistakes": {"pooling": "mean"},
    },
    "gemma3-mean": {
        "config": {
            **BASE,
            "architectures": ["Gemma3TextModel"],
            "attention_bias": False,
            "hidden_activation": "gelu_pytorch_tanh",
            "layer_types": ["sliding_attention", "full_attention"],
            "model_type": "gemma3_text",
            "pad_token_id": 0,
            "query_pre_attn_scalar": 40,
            "rope_local_base_freq": 10000.0,
            "rope_scaling": None,
            "rope_theta": 1000000.0,
            "sliding_window": 24,  # 13 to either side
            "use_bidirectional_attention": True,
        },
        "pooling": "mean",
        "dense": [(64, 160, False, torch.nn.Identity()), (160, 48, False, torch.nn.Identity())],
        "normalize": True,
        "mistakes": {"pooling": "lasttoken", "config": {"use_bidirectional_attention": False}},
    },
    "llama-first": {
        "config": {
            **BASE,
            "architectures": ["LlamaModel"],
            "attention_bias": False,
            "hidden_act": "silu",
            "mlp_bias": False,
            "model_type": "llama",
            "rope_scaling": None,
            "rope_theta": 10000.0,
            "tie_word_embeddings": True,
        },
        "pooling": "cls",
        "dense": [(64, 40, True, torch.nn.Tanh())],
        "normalize": False,
        "mistakes": {"pooling": "mean"},
    },
}


def texts(vocabulary):
    generator = numpy.random.default_rng(7)
    return [generator.integers(0, vocabulary, length).tolist() for length in LENGTHS]


def transformer(config, folder):
    """The model of transformers, loaded from `folder`, with keys of its configuration changed."""
    values = json.loads((folder / "config.json").read_text())
    values.update(config)
    options = AutoConfig.for_model(**values)
    model = AutoModel.from_pretrained(folder, config=options, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


def attention_mask(model, mask):
    """The mask as the model takes it. transformers makes masks that look both ways only with torch 2.6 and later, so
    here its rule for them is applied pair by pair."""
    config = model.config
    if not getattr(config, "use_bidirectional_attention", False):
        return mask
    length = mask.shape[1]
    inside = _bidirectional_window_overlay(config.sliding_window)
    near = torch.tensor([[inside(0, 0, query, key) for key in range(length)] for query in range(length)])
    window = torch.zeros(length, length).masked_fill(~near, float("-inf"))
    return {"full_attention": torch.zeros(1, 1, length, length), "sliding_attention": window[None, None]}


def vectors(model, tail, tokens):
    """What sentence-transformers' modules make of the hidden states, text by text."""
    result = []
    for ids in tokens:
        ids = torch.tensor([ids])
        mask = torch.ones_like(ids)
        with torch.no_grad():
            hidden = model(input_ids=ids, attention_mask=attention_mask(model, mask), use_cache=False).last_hidden_state
            features = {"token_embeddings": hidden, "attention_mask": mask}
            for module in tail:
                features = module(features)
        result.append(features["sentence_embedding"][0].numpy())
    return result


def cosine(one, other):
    return float(one @ other / numpy.linalg.norm(one) / numpy.linalg.norm(other))


def make(name, description, folder):
    torch.manual_seed(sum(name.encode()))
    config = description["config"]
    write_json(folder / "config.json", config)
    # With its own defaults first, for shapes and names; the values are made here.
    shape = AutoModel.from_config(AutoConfig.for_model(**config))
    state = {}
    for key, value in shape.state_dict().items():
        scale = 0.2 if "norm" not in key else 0.3
        fresh = torch.randn(value.shape) * scale
        if "norm" in key and not config["model_type"].startswith("gemma"):
            fresh = fresh + 1.0
        state[key] = fresh.to(torch.bfloat16)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    def path(kind):
        return f"{len(modules)}_{kind}"

    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    tail = [Pooling(config["hidden_size"], pooling_mode=description["pooling"])]
    for inputs, outputs, bias, activation in description["dense"]:
        layer = Dense(inputs, outputs, bias=bias, activation_function=activation)
        with torch.no_grad():
            for parameter in layer.linear.parameters():
                parameter.copy_((torch.randn(parameter.shape) * 0.1).to(torch.bfloat16).float())
        tail.append(layer)
    if description["normalize"]:
        tail.append(Normalize())
    for module in tail:
        kind = type(module).__name__
        place = path(kind)
        (folder / place).mkdir()
        if kind != "Normalize":
            write_json(folder / place / "config.json", module.get_config_dict())
        if kind == "Dense":
            state = {key: value.to(torch.bfloat16).contiguous() for key, value in module.state_dict().items()}
            save_file(state, folder / place / "model.safetensors", metadata={"format": "pt"})
        number = len(modules)
        modules.append({"idx": number, "name": str(number), "path": place, "type": f"sentence_transformers.models.{kind}"})
    write_json(folder / "modules.json", modules)
    write_json(
        folder / "config_sentence_transformers.json",
        {"default_prompt_name": None, "prompts": {"document": "", "query": "Query: "}, "similarity_fn_name": "cosine"},
    )

    tokens = texts(config["vocab_size"])
    right = vectors(transformer({}, folder), tail, tokens)
    mistaken = Pooling(config["hidden_size"], pooling_mode=description["mistakes"]["pooling"])
    wrong = {"pooling": vectors(transformer({}, folder), [mistaken, *tail[1:]], tokens)}
    if "config" in description["mistakes"]:
        wrong["config"] = vectors(transformer(description["mistakes"]["config"], folder), tail, tokens)
    for mistake, values in wrong.items():
        nearest = min(cosine(one, other) for one, other in zip(right, values))
        if nearest > LARGEST_COSINE:
            sys.exit(f"{name}: the mistake {mistake} hardly shows (cosine {nearest:.5f})")
    (folder / "golden").mkdir()
    golden = [{"tokens": ids, "vector": [round(float(value), 7) for value in vector]} for ids, vector in zip(tokens, right)]
    lines = ",\n".join(json.dumps(text) for text in golden)
    (folder / "golden" / "vectors.json").write_text(f"[\n{lines}\n]\n")


def same(one, other):
    one, other = (json.loads((folder / "golden" / "vectors.json").read_text()) for folder in (one, other))
    return all(
        first["tokens"] == second["tokens"] and numpy.allclose(first["vector"], second["vector"], atol=TOLERANCE)
        for first, second in zip(one, other, strict=True)
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    for name, description in MODELS.items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary)
            make(name, description, folder)
            if arguments.check:
                if not same(folder, OUTPUT / name):
                    sys.exit(f"{name}: the vectors would change")
                continue
            shutil.rmtree(OUTPUT / name, ignore_errors=True)
            shutil.copytree(folder, OUTPUT / name)
            print(f"{name}: written")


if __name__ == "__main__":
    main()
