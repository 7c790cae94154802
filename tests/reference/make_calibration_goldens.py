"""Write the golden statistics of tiny models: what transformers, float32, multiplies every weight with.

    python make_calibration_goldens.py [--check]

The text calibration/text.txt is cut into windows of at most CONTEXT tokens that do not overlap, each of which begins
with the tokens which the tokenizer puts before a text. A hook before every Linear sees its input. The golden file
calibration/MODEL.safetensors has for each weight, under its name in the model's files, the mean of the square of each
input over all tokens of all windows, float32 [in]; and under `products.NAME`, for one weight, the mean of the
product of every two inputs, float32 [in, in]. The metadata has the number of `tokens`. Tokens have the weights that
docs/reference/statistics.md names; a window is no longer than what an evaluation runs at once, so that both are one.
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
SHARE = 0.25  # of a weight of 1, which every token has
PRODUCTS = ["model.layers.2.mlp.gate_proj.weight"]


def token_weights(name: str, attentions, sizes: dict[str, torch.Tensor], count: int) -> torch.Tensor:
    """How much each token counts among the inputs of a Linear."""
    if name == "lm_head":
        return torch.ones(count, dtype=torch.float64)
    layer, part = int(name.split(".")[2]), name.split(".")[-1]
    if part in ("k_proj", "v_proj"):
        return attentions[layer][0].double().pow(2).sum((0, 1)).sqrt()
    following = f"model.layers.{layer + 1}.input_layernorm"
    norm = f"model.layers.{layer}.post_attention_layernorm" if part in ("q_proj", "o_proj") else following
    size = sizes.get(norm, sizes["model.norm"])
    return (size.median() / size).clamp(max=1)


def measure(directory: pathlib.Path, text: str) -> tuple[dict[str, torch.Tensor], int]:
    """The golden file's tensors for one model and text, and the number of tokens."""
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    lead = tokenizer("")["input_ids"]
    tokens = tokenizer(text)["input_ids"][len(lead) :]
    model = reference_logits.load_model(directory)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    sums: dict[str, torch.Tensor] = {}
    inputs: dict[str, torch.Tensor] = {}
    sizes: dict[str, torch.Tensor] = {}

    def see_input(name: str):
        return lambda _module, arguments: inputs.__setitem__(name, arguments[0][0].double())

    def see_size(name: str):
        return lambda _module, arguments: sizes.__setitem__(name, arguments[0][0].double().pow(2).mean(1).sqrt())

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(see_input(name))
        elif name.endswith("layernorm") or name == "model.norm":
            module.register_forward_pre_hook(see_size(name))
    room = CONTEXT - len(lead)
    count = 0
    for start in range(0, len(tokens), room):
        window = torch.tensor([lead + tokens[start : start + room]])
        with torch.no_grad():
            attentions = model(window, use_cache=False, output_attentions=True).attentions
        for name, rows in inputs.items():
            weights = token_weights(name, attentions, sizes, len(rows))
            weight = "model.embed_tokens.weight" if tied and name == "lm_head" else f"{name}.weight"
            weights = SHARE + (1 - SHARE) * weights / weights.mean()
            sums[weight] = sums.get(weight, 0) + (rows * weights[:, None]).T @ rows
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
