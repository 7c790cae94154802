"""Write comparison/tiny-llama.json: how far a model with evenly spaced weights is from the original.

    python make_comparison.py [--check]

The weights of the tiny Llama are put in 16 evenly spaced values for every 4 rows, as the quantizer of
tests/examples/uniform.rs does it, in numpy. transformers in float32 then runs both models on
perplexity/text.txt, in windows as in make_perplexity.py. The golden file has, over the scored tokens, `kl_mean` and
`kl_p99` of KL(original || quantized) in nats, `top1` (the same winner; of the original's logits less than 0.01 apart
either one), `top5` (the original's winner among the five largest), `nll` and `original_nll`, `words` (split at white
space), `nats_per_word` (difference of the mean negative log-likelihoods, times tokens over words), and for each matrix
`sqnr_db` and `output_error`, |dW x| / |W x| over all inputs x of the text that the original's matrix gets; of the
embedding over the rows that the text looks up.
"""

import argparse
import json
import pathlib

import numpy
import torch
from transformers import AutoTokenizer

import reference_logits
from reference_json import write_json

HERE = pathlib.Path(__file__).resolve().parent
MODEL = "tiny-llama"
CONTEXT = 96
LEVELS, ROWS = 16, 4


def uniform(weight: numpy.ndarray) -> numpy.ndarray:
    """A matrix in evenly spaced values, float32 [rows, columns]."""
    halves = weight.astype(numpy.float16).astype(numpy.float32)
    groups = halves.reshape(-1, ROWS * weight.shape[1])
    least, greatest = groups.min(axis=1, keepdims=True), groups.max(axis=1, keepdims=True)
    step = (greatest - least) / numpy.float32(LEVELS - 1)
    indices = numpy.clip(numpy.floor((groups - least) / step + numpy.float32(0.5)), 0, LEVELS - 1)
    entries = (least + step * indices.astype(numpy.float32)).astype(numpy.float16)
    return entries.astype(numpy.float32).reshape(weight.shape)


def matrices(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The modules with a matrix, by the name of the weight and the role."""
    found = {"model.embed_tokens.weight embedding": model.model.embed_tokens}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            head = module is model.lm_head
            tied = head and model.config.tie_word_embeddings
            weight = "model.embed_tokens.weight" if tied else f"{name}.weight"
            found[f"{weight} head" if head else f"{weight} matrix"] = module
    return found


def windows_of(tokens: list[int], lead: list[int]) -> list[torch.Tensor]:
    room = CONTEXT - len(lead)
    cut = [lead + tokens[start : start + room] for start in range(0, len(tokens), room)]
    return [torch.tensor([window]) for window in cut]


def measure() -> dict:
    directory = HERE.parent / "models" / MODEL
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    text = (HERE / "perplexity" / "text.txt").read_text(encoding="utf-8")
    lead = tokenizer("")["input_ids"]
    tokens = tokenizer(text)["input_ids"][len(lead) :]
    windows = windows_of(tokens, lead)
    original = reference_logits.load_model(directory)
    quantized = reference_logits.load_model(directory)
    # A tied head is quantized apart, but to the same values.
    stored = {}
    for name, module in matrices(quantized).items():
        weight = matrices(original)[name].weight.detach().numpy()
        stored[name] = uniform(weight)
        module.weight = torch.nn.Parameter(torch.from_numpy(stored[name].copy()))

    sums = {name: numpy.zeros(2) for name in stored}

    def hook(name: str):
        def see(module, inputs, _):
            weight = module.weight.detach().numpy().astype(numpy.float64)
            difference = weight - stored[name]
            if isinstance(module, torch.nn.Embedding):
                rows = inputs[0].reshape(-1).numpy()
                # What the tokenizer puts before a text is none of its tokens.
                rows = rows[len(lead) :]
                sums[name] += [(weight[rows] ** 2).sum(), (difference[rows] ** 2).sum()]
                return
            x = inputs[0].reshape(-1, weight.shape[1]).detach().numpy().astype(numpy.float64)
            sums[name] += [((x @ weight.T) ** 2).sum(), ((x @ difference.T) ** 2).sum()]

        return see

    for name, module in matrices(original).items():
        module.register_forward_hook(hook(name))
    kl, top1, top5, nll, original_nll = [], [], [], [], []
    for window in windows:
        with torch.no_grad():
            p = original(window, use_cache=False).logits[0].double()[:-1]
            q = quantized(window, use_cache=False).logits[0].double()[:-1]
        log_p, log_q = torch.log_softmax(p, -1), torch.log_softmax(q, -1)
        kl += (log_p.exp() * (log_p - log_q)).sum(-1).tolist()
        winners, ours = p.argmax(-1), q.argmax(-1)
        tie = p.gather(-1, winners[:, None]) - p.gather(-1, ours[:, None]) < 0.01
        top1 += ((winners == ours) | tie[:, 0]).tolist()
        top5 += (q.topk(5).indices == winners[:, None]).any(-1).tolist()
        following = window[0, 1:, None]
        nll += (-log_q.gather(-1, following)[:, 0]).tolist()
        original_nll += (-log_p.gather(-1, following)[:, 0]).tolist()
    words = len(tokenizer.decode(tokens).split())
    lost = numpy.mean(nll) - numpy.mean(original_nll)
    errors = {}
    for name, module in matrices(original).items():
        weight = module.weight.detach().numpy().astype(numpy.float64)
        noise = ((weight - stored[name]) ** 2).sum()
        errors[name] = {
            "sqnr_db": round(10 * float(numpy.log10((weight**2).sum() / noise)), 4),
            "output_error": round(float(numpy.sqrt(sums[name][1] / sums[name][0])), 6),
        }
    return {
        "context": CONTEXT,
        "tokens": len(tokens),
        "scored": len(kl),
        "words": words,
        "kl_mean": round(float(numpy.mean(kl)), 6),
        "kl_p99": round(float(numpy.percentile(kl, 99)), 6),
        "top1": round(float(numpy.mean(top1)), 6),
        "top5": round(float(numpy.mean(top5)), 6),
        "nll": round(float(numpy.mean(nll)), 6),
        "original_nll": round(float(numpy.mean(original_nll)), 6),
        "nats_per_word": round(float(lost) * len(tokens) / words, 6),
        "tensors": errors,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compute the golden file again, and fail if it would change")
    arguments = parser.parse_args()
    reference_logits.use_threads(1)
    path = HERE / "comparison" / f"{MODEL}.json"
    found = measure()
    if not arguments.check:
        path.parent.mkdir(exist_ok=True)
        write_json(path, found)
        print(f"{path}: KL {found['kl_mean']}")
        return
    known = json.loads(path.read_text(encoding="utf-8"))
    pairs = [(known[key], found[key]) for key in known if key != "tensors"]
    for name, errors in known["tensors"].items():
        pairs += [(errors[key], found["tensors"][name][key]) for key in errors]
    if known.keys() != found.keys() or any(abs(one - other) > 1e-3 * abs(one) for one, other in pairs):
        raise SystemExit(f"error: {path} would change")
    print(f"{path}: as before")


if __name__ == "__main__":
    main()
