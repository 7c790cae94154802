"""Write the golden statistics of tiny models: what transformers, float32, multiplies every weight with.

    python make_calibration_goldens.py [--check]

The text calibration/text.txt is cut into windows of at most CONTEXT tokens that do not overlap, each of which begins
with the tokens which the tokenizer puts before a text. A hook before every Linear sees its input. The golden file
calibration/MODEL.safetensors has for each weight, under its name in the model's files, the mean of the square of each
input over all tokens of all windows, float32 [in]; and under `products.NAME`, for one weight, the mean of the
product of every two inputs, float32 [in, in]. The metadata has the number of `tokens`.
"""

import argparse
import pathlib

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoTokenizer

import reference_logits

HERE = pathlib.Path(__file__).resolve().parent
MODELS = ["tiny-llama", "tiny-qwen3"]
CONTEXT = 96  # two windows, the last one not full
PRODUCTS = ["model.layers.2.mlp.gate_proj.weight"]


def measure(directory: pathlib.Path, text: str) -> tuple[dict[str, torch.Tensor], int]:
    """The golden file's tensors for one model and text, and the number of tokens."""
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    lead = tokenizer("")["input_ids"]
    tokens = tokenizer(text)["input_ids"][len(lead) :]
    model = reference_logits.load_model(directory)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    sums: dict[str, torch.Tensor] = {}

    def hook(name: str):
        def see(_module, arguments):
            rows = arguments[0].reshape(-1, arguments[0].shape[-1]).double()
            sums[name] = sums.get(name, 0) + rows.T @ rows

        return see

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            weight = "model.embed_tokens.weight" if tied and name == "lm_head" else f"{name}.weight"
            module.register_forward_pre_hook(hook(weight))
    room = CONTEXT - len(lead)
    count = 0
    for start in range(0, len(tokens), room):
        window = torch.tensor([lead + tokens[start : start + room]])
        with torch.no_grad():
            model(window, use_cache=False)
        count += window.shape[1]
    found = {name: torch.diagonal(total / count).float().contiguous() for name, total in sums.items()}
    found |= {f"products.{name}": (sums[name] / count).float() for name in PRODUCTS}
    return found, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compute the golden files again, and fail if one would change")
    arguments = parser.parse_args()
    reference_logits.use_threads(1)
    text = (HERE / "calibration" / "text.txt").read_text(encoding="utf-8")
    for model in MODELS:
        path = HERE / "calibration" / f"{model}.safetensors"
        found, count = measure(HERE.parent / "models" / model, text)
        if not arguments.check:
            save_file(found, path, metadata={"tokens": str(count)})
            print(f"{path}: {count} tokens")
            continue
        with safe_open(path, "pt") as stored:
            same = set(stored.keys()) == set(found) and stored.metadata()["tokens"] == str(count)
            same = same and all(torch.allclose(stored.get_tensor(name), found[name], rtol=1e-4) for name in found)
        if not same:
            raise SystemExit(f"error: {path} would change")
        print(f"{path}: as before")


if __name__ == "__main__":
    main()
