"""Make multimodal/NAME.json: what transformers 5 writes of models that see images, whose language models are in ../models.

    python make_multimodal.py            # needs requirements-5.txt
    python make_multimodal.py --check    # writes nothing; fails if a file would change

For each model: its config.json, and the names and shapes of all tensors, with the name that the language model's have in
../models/variants/NAME (null for all others). The script loads those weights into the whole model, and fails unless it
gives the logits of ../models/variants/NAME/golden for a text.
"""

import argparse
import json
import pathlib
import tempfile

import numpy
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForImageTextToText

import reference_logits
from reference_json import write_json

HERE = pathlib.Path(__file__).resolve().parent
VARIANTS = HERE.parent / "models" / "variants"
TOLERANCE = 1e-3

SIGLIP = {"hidden_size": 16, "image_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1, "patch_size": 8}
# Of each language model, the model that sees images, too, and what its configuration has beside it.
MODELS = {
    "gemma3": ("gemma3", {"mm_tokens_per_image": 4, "vision_config": SIGLIP}),
    "ministral3": ("mistral3", {"vision_config": {**SIGLIP, "head_dim": 8, "model_type": "pixtral"}}),
    "qwen3_5": (
        "qwen3_5",
        {
            "vision_config": {
                "depth": 1, "hidden_size": 16, "in_channels": 3, "intermediate_size": 32, "num_heads": 2,
                "num_position_embeddings": 16, "out_hidden_size": 64, "patch_size": 8, "spatial_merge_size": 2,
                "temporal_patch_size": 2,
            }
        },
    ),
}


def make(name: str) -> dict:
    """The contents of a model's file."""
    kind, more = MODELS[name]
    text = json.loads((VARIANTS / name / "config.json").read_text())
    weights = load_file(VARIANTS / name / "model.safetensors")
    if text["tie_word_embeddings"]:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, text_config=text, tie_word_embeddings=text["tie_word_embeddings"], **more)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    inner = lambda name: name.replace("model.language_model.", "model.", 1)  # noqa: E731
    own = {name: weights[inner(name)].float() for name in model.state_dict() if inner(name) in weights}
    missing = set(map(inner, own)) ^ set(weights)
    if missing:
        raise SystemExit(f"error: {name}: the whole model has no place for {sorted(missing)}")
    model.load_state_dict(own, strict=False)
    ids = numpy.load(VARIANTS / name / "golden" / "ids.npy")
    stored = numpy.load(VARIANTS / name / "golden" / "logits.npy")
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(ids.astype(numpy.int64))[None], use_cache=False).logits[0].float().numpy()
    difference = reference_logits.difference_beyond_rounding(stored, logits)
    if difference > TOLERANCE:
        raise SystemExit(f"error: {name}: the whole model gives other logits, by {difference:.2e}")
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        written = json.loads((pathlib.Path(folder) / "config.json").read_text())
        tensors = {}
        with safe_open(pathlib.Path(folder) / "model.safetensors", "pt") as file:
            for key in sorted(file.keys()):
                value = file.get_tensor(key)
                same = [ours for ours, wanted in weights.items() if wanted.shape == value.shape and torch.equal(wanted.float(), value)]
                same = [ours for ours in same if key.endswith(ours.removeprefix("model."))]
                tensors[key] = {"is": same[0] if same else None, "shape": list(value.shape)}
    return {"config": written, "tensors": tensors, "transformers": transformers.__version__}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file would change")
    arguments = parser.parse_args()
    reference_logits.use_threads(1)
    for name in MODELS:
        made, path = make(name), HERE / "multimodal" / f"{name}.json"
        own = sum(tensor["is"] is not None for tensor in made["tensors"].values())
        print(f"{name}: {own} of {len(made['tensors'])} tensors are the language model's", flush=True)
        if arguments.check and json.loads(path.read_text()) != made:
            raise SystemExit(f"error: {path.name} would change")
        if not arguments.check:
            path.parent.mkdir(exist_ok=True)
            write_json(path, made)


if __name__ == "__main__":
    main()
