"""Write the golden perplexities of the tiny models: transformers, float32, on the text perplexity/text.txt.

    python make_perplexity.py [--check]
    python make_perplexity.py --model DIR --text FILE --context N [--max-tokens N]

The text's tokens are cut into windows that do not overlap. A window begins with the tokens which the tokenizer puts
before a text, and has at most `context` tokens with them. Every token of a window but its first is scored by the
logits before it, and the mean of -log(probability) is over all windows together. The golden file
perplexity/MODEL.json has `context`, `tokens` (of the text), `windows`, `scored`, `nll_mean` (nats) and `perplexity`.
"""

import argparse
import json
import math
import pathlib

import torch
from transformers import AutoTokenizer

import reference_logits
from reference_json import write_json

HERE = pathlib.Path(__file__).resolve().parent
MODELS = ["tiny-llama", "tiny-qwen2", "tiny-qwen3"]
CONTEXT = 96  # several windows, the last one not full


def measure(directory: pathlib.Path, text: str, context: int, most: int | None) -> dict:
    """The golden file's contents for one model and text."""
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    lead = tokenizer("")["input_ids"]
    tokens = tokenizer(text)["input_ids"][len(lead) :][:most]
    model = reference_logits.load_model(directory)
    room = context - len(lead)
    total, scored, windows = 0.0, 0, 0
    for start in range(0, len(tokens), room):
        window = torch.tensor([lead + tokens[start : start + room]])
        if window.shape[1] < 2:
            continue
        with torch.no_grad():
            logits = model(window, use_cache=False).logits[0].double()
        losses = torch.nn.functional.cross_entropy(logits[:-1], window[0, 1:], reduction="sum")
        total += float(losses)
        scored += window.shape[1] - 1
        windows += 1
    mean = total / scored
    return {
        "context": context,
        "tokens": len(tokens),
        "windows": windows,
        "scored": scored,
        "nll_mean": round(mean, 6),
        "perplexity": round(math.exp(mean), 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compute the golden files again, and fail if one would change")
    parser.add_argument("--model", type=pathlib.Path, help="another Hugging Face directory; prints")
    parser.add_argument("--text", type=pathlib.Path, default=HERE / "perplexity" / "text.txt")
    parser.add_argument("--context", type=int, default=CONTEXT)
    parser.add_argument("--max-tokens", type=int)
    arguments = parser.parse_args()
    reference_logits.use_threads(1)
    text = arguments.text.read_text(encoding="utf-8")
    if arguments.model:
        print(measure(arguments.model, text, arguments.context, arguments.max_tokens))
        return
    for name in MODELS:
        path = HERE / "perplexity" / f"{name}.json"
        found = measure(HERE.parent / "models" / name, text, CONTEXT, None)
        if not arguments.check:
            write_json(path, found)
            print(f"{path}: perplexity {found['perplexity']}")
            continue
        stored = json.loads(path.read_text(encoding="utf-8"))
        same_counts = all(stored[key] == found[key] for key in ("context", "tokens", "windows", "scored"))
        if not same_counts or abs(stored["nll_mean"] - found["nll_mean"]) > 1e-5:
            raise SystemExit(f"error: {path} says {stored}, now it is {found}")
        print(f"{path}: as before")


if __name__ == "__main__":
    main()
