"""Write golden/half.npy of some models below tests/models: what 16-bit floats cost transformers itself.

    python make_half.py [--check] [--only NAME ...]

    half.npy float32 [5, T]  relative L2 between logits in float16 and in float32, of each of the first T tokens of ids.npy:
                             first as torch computes in float16, then with products of matrices that are no weights (queries
                             and keys, probabilities and values) summed in float16, each product and each sum rounded, as
                             Apple's runtime for Linux does: from the first to the last, backwards, in two shuffled orders

It is what Core AI assets are allowed (tests/witness/coreai_witness.py). Families that only transformers 5 knows are made
where that is installed (requirements-5.txt), all others with the version of requirements.txt; the others are left alone.
"""

import argparse
import pathlib
from collections.abc import Callable, Iterable
from functools import partial

import numpy
import torch

import make_variants
import reference_logits

TOKENS = 80
TOLERANCE = 0.25  # of the largest error: other processors add in another order
TRAINED = ("tiny-llama", "tiny-qwen2", "tiny-qwen3")
VARIANTS = (
    "cohere2",
    "exaone4",
    "gemma3",
    "granite",
    "lfm2",
    "mistral-short-window",
    "olmo2",
    "olmo3",
    "phi3-short-factors",
    "qwen3-short-window-in-one-layer",
    "qwen3_5",
    "smollm3",
    "stablelm",
)


def shuffled(seed: int, count: int) -> list[int]:
    """Places from 0 to `count` - 1 in an order of their own for each seed."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()


ORDERS = (range, lambda count: range(count - 1, -1, -1), partial(shuffled, 1), partial(shuffled, 2))


def summed_in_half(order: Callable[[int], Iterable[int]], left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The product of matrices, (..., M, K) and (..., K, N), where every product and every sum is rounded to float16."""
    total = torch.zeros((*left.shape[:-1], right.shape[-1]), dtype=torch.float16)
    for place in order(left.shape[-1]):
        total = total + left[..., place, None] * right[..., None, place, :]
    return total


def errors(directory: pathlib.Path, ids: numpy.ndarray) -> numpy.ndarray:
    """The rows of half.npy, for token ids, integer [T]."""
    model = reference_logits.load_model(directory)
    expected = reference_logits.compute_logits(model, ids)
    model = model.half()
    found = [reference_logits.compute_logits(model, ids)]
    kept = torch.matmul
    for order in ORDERS:
        torch.matmul = partial(summed_in_half, order)
        try:
            found.append(reference_logits.compute_logits(model, ids))
        finally:
            torch.matmul = kept
    size = numpy.linalg.norm(expected, axis=1)
    return numpy.stack([numpy.linalg.norm(one - expected, axis=1) / size for one in found]).astype(numpy.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with what is stored instead of writing")
    parser.add_argument("--only", nargs="*", default=(*TRAINED, *VARIANTS), metavar="NAME")
    arguments = parser.parse_args()
    reference_logits.use_threads(1)
    root = pathlib.Path(__file__).resolve().parent.parent / "models"
    for name in arguments.only:
        trained = name in TRAINED
        newer = not trained and make_variants.VARIANTS[name].family in make_variants.NEWER
        if newer != (reference_logits.VERSION >= 5):
            print(f"{name}: left alone, another version of transformers makes it")
            continue
        directory = root / name if trained else root / "variants" / name
        golden = root / "golden" / name if trained else directory / "golden"
        made = errors(directory, numpy.load(golden / "ids.npy").reshape(-1)[:TOKENS])
        path = golden / "half.npy"
        if arguments.check:
            stored = numpy.load(path)
            off = numpy.abs(stored - made).max() / stored.max()
            if stored.shape != made.shape or off > TOLERANCE:
                raise SystemExit(f"error: {path} differs by {off:.2f} of its largest value")
        else:
            numpy.save(path, made)
        plain, summed = made[0], made[1:]
        print(
            f"{name}: mean {plain.mean():.4f}, largest {plain.max():.4f}; "
            f"summed in float16 mean {summed.mean():.4f}, largest {summed.max():.4f}"
        )


if __name__ == "__main__":
    main()
