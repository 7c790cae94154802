"""Write generation/*.json: what transformers' `generate` continues with a repetition penalty, and what its
processors make of given logits.

    python make_generation_goldens.py            # write
    python make_generation_goldens.py --check    # compare with the files that exist

Greedy, in float32, with the tiny models; the program computes in float16, and the margins between the two largest
logits, which are written too, say how far both are from a tie.

processors.json has probabilities behind transformers' processors and warpers in the order in which `generate` applies
them. Presence and frequency penalties, which transformers does not have, stand behind the repetition penalty, computed
as OpenAI's documentation defines them.
"""

import argparse
import json
import pathlib
import sys

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

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
PROCESSORS = [
    {},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.7},
    {"presence_penalty": 0.8},
    {"frequency_penalty": 0.5},
    {"presence_penalty": -0.6, "frequency_penalty": 0.3},
    {"repetition_penalty": 1.2, "presence_penalty": 0.4, "frequency_penalty": -0.2, "no_repeat_ngram_size": 2},
    {"repetition_penalty": 1.1, "temperature": 0.7, "top_k": 12},
    {"frequency_penalty": 0.6, "temperature": 1.4, "top_p": 0.8},
    {"presence_penalty": 0.5, "temperature": 0.9, "top_k": 20, "top_p": 0.9, "min_p": 0.05},
]
VOCABULARY = 32
PROMPT = "The king said to the queen that he"
TOKENS = 24


class PresenceAndFrequency(LogitsProcessor):
    """mu[j] - count[j] * frequency - (count[j] > 0) * presence, over what was generated."""

    def __init__(self, prompt, presence, frequency):
        self.prompt, self.presence, self.frequency = prompt, presence, frequency

    def __call__(self, input_ids, scores):
        count = torch.bincount(input_ids[0, self.prompt :], minlength=scores.shape[-1]).float()
        return scores - count * self.frequency - (count > 0).float() * self.presence


def processors():
    generator = torch.Generator().manual_seed(5)
    logits = (torch.randn(1, VOCABULARY, generator=generator) * 2).float()
    tokens, prompt = [3, 8, 3, 1, 30, 8, 5, 8, 3, 8, 8, 5, 8], 6
    cases = []
    for settings in PROCESSORS:
        chain = LogitsProcessorList()
        if (penalty := settings.get("repetition_penalty")) is not None:
            chain.append(RepetitionPenaltyLogitsProcessor(penalty))
        chain.append(PresenceAndFrequency(prompt, settings.get("presence_penalty", 0.0), settings.get("frequency_penalty", 0.0)))
        if (size := settings.get("no_repeat_ngram_size")) is not None:
            chain.append(NoRepeatNGramLogitsProcessor(size))
        for key, warper in [
            ("temperature", TemperatureLogitsWarper),
            ("top_k", TopKLogitsWarper),
            ("top_p", TopPLogitsWarper),
            ("min_p", MinPLogitsWarper),
        ]:
            if key in settings:
                chain.append(warper(settings[key]))
        scores = chain(torch.tensor([tokens]), logits.clone())
        cases.append({
            "settings": settings,
            "probabilities": [round(value, 7) for value in torch.softmax(scores[0].double(), -1).tolist()],
        })
    return {"logits": logits[0].tolist(), "tokens": tokens, "prompt_tokens": prompt, "cases": cases}


def keep(path, golden, check):
    if not check:
        FOLDER.mkdir(exist_ok=True)
        write_json(path, golden)
    elif json.loads(path.read_text()) != golden:
        sys.exit(f"{path} differs")


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
        keep(FOLDER / f"{name}.json", golden, arguments.check)
    keep(FOLDER / "processors.json", processors(), arguments.check)


if __name__ == "__main__":
    main()
