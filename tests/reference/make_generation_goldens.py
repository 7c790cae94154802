"""Write generation/*.json: what transformers' `generate` continues with a repetition penalty.

    python make_generation_goldens.py            # write
    python make_generation_goldens.py --check    # compare with the files that exist

Greedy, in float32, with the tiny models; the program computes in float16, and the margins between the two largest
logits, which are written too, say how far both are from a tie.
"""

import argparse
import json
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from reference_json import write_json

FOLDER = pathlib.Path(__file__).parent / "generation"
MODELS = pathlib.Path(__file__).parent.parent / "models"
SETTINGS = [
    {},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.8},
    {"no_repeat_ngram_size": 2},
    {"repetition_penalty": 1.1, "no_repeat_ngram_size": 3},
]
PROMPT = "The king said to the queen that he"
TOKENS = 24


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    arguments = parser.parse_args()
    for name in ["tiny-llama", "tiny-qwen3"]:
        tokenizer = AutoTokenizer.from_pretrained(MODELS / name)
        model = AutoModelForCausalLM.from_pretrained(MODELS / name, dtype=torch.float32)
        prompt = tokenizer(PROMPT, return_tensors="pt", return_token_type_ids=False)
        cases = []
        for settings in SETTINGS:
            result = model.generate(
                **prompt, do_sample=False, max_new_tokens=TOKENS, return_dict_in_generate=True, output_scores=True, **settings
            )
            tops = [torch.topk(scores[0], 2).values for scores in result.scores]
            ids = result.sequences[0].tolist()
            cases.append({
                "settings": settings,
                "text": tokenizer.decode(ids, skip_special_tokens=True),
                "margin": round(min(float(top[0] - top[1]) for top in tops), 4),
            })
        golden = {"prompt": PROMPT, "tokens": TOKENS, "cases": cases}
        path = FOLDER / f"{name}.json"
        if not arguments.check:
            FOLDER.mkdir(exist_ok=True)
            write_json(path, golden)
        elif json.loads(path.read_text()) != golden:
            sys.exit(f"{path} differs")


if __name__ == "__main__":
    main()
