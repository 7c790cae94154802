"""Write golden/half.npy of some models below tests/models: what 16-bit floats cost transformers itself.

    python make_half.py [--check] [--only NAME ...]

    half.npy float16 [1 + 24, T]  relative L2 between logits in float16 and in float32, of each of the first T tokens of
                             ids.npy: first as torch computes in float16, then in 24 orders with products of matrices that are
                             no weights (queries and keys, probabilities and values) summed in float16, each product and each
                             sum rounded, as Apple's runtime for Linux does: from the first to the last, backwards, shuffled

transformers computes the recurrence of Qwen3.5 in float32, in a model of float16 too. In the 24 it is computed token by token in
float16, as every program for the Neural Engine must: only lengths of queries and keys, and decays, are found in float32.

It is what Core AI assets are allowed (../witness/coreai_witness.py). Families that only transformers 5 knows are made
where that is installed (requirements-5.txt), all others with the version of requirements.txt; the others are left alone.
"""

import argparse
import contextlib
import importlib
import pathlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy
import torch

import make_variants
import reference_logits

TOKENS = 80
TOLERANCE = 0.25  # of the largest error: other processors add in another order
SAME = 1e-4  # relative L2 of the same computed in float32
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


Order = Callable[[int], Iterable[int]]
ORDERS: tuple[Order, ...] = (range, lambda count: range(count - 1, -1, -1), *(partial(shuffled, seed) for seed in range(1, 23)))


def summed_in_half(order: Order, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The product of matrices, (..., M, K) and (..., K, N), where every product and every sum is rounded to float16."""
    total = torch.zeros((*left.shape[:-1], right.shape[-1]), dtype=torch.float16)
    for place in order(left.shape[-1]):
        total = total + left[..., place, None] * right[..., None, place, :]
    return total


def delta_rule(product: Callable, dtype: torch.dtype, query, key, value, g, beta, **_) -> tuple[torch.Tensor, None]:
    """The gated delta rule token by token, in `dtype`; arguments and result are those of transformers' function."""

    def unit(x: torch.Tensor) -> torch.Tensor:
        return x.float() * torch.rsqrt(x.float().square().sum(-1, keepdim=True) + 1e-6)

    group = value.shape[2] // key.shape[2]
    query = (unit(query) * query.shape[-1] ** -0.5).to(dtype).repeat_interleave(group, dim=2)
    key = unit(key).to(dtype).repeat_interleave(group, dim=2)
    value, beta, decay = value.to(dtype), beta.to(dtype), g.float().exp().to(dtype)
    batch, tokens, heads, width = value.shape
    matrices = torch.zeros((batch, heads, key.shape[-1], width), dtype=dtype)
    read = []
    for token in range(tokens):
        row = key[:, token, :, None, :]
        matrices = matrices * decay[:, token, :, None, None]
        written = (value[:, token, :, None, :] - product(row, matrices)) * beta[:, token, :, None, None]
        matrices = matrices + row.transpose(-1, -2) * written
        read.append(product(query[:, token, :, None, :], matrices)[:, :, 0])
    return torch.stack(read, dim=1), None


@contextlib.contextmanager
def computing(model: torch.nn.Module, product: Callable, dtype: torch.dtype) -> Iterator[None]:
    """In it, `product` multiplies matrices that are no weights, and a model's recurrence, if it has one, works in `dtype`."""
    module, rule = importlib.import_module(type(model).__module__), "torch_chunk_gated_delta_rule"
    kept = [(torch, "matmul", product)]
    if hasattr(module, rule):
        kept.append((module, rule, partial(delta_rule, product, dtype)))
    old = [getattr(place, name) for place, name, _ in kept]
    for place, name, new in kept:
        setattr(place, name, new)
    try:
        yield
    finally:
        for (place, name, _), value in zip(kept, old):
            setattr(place, name, value)


def errors(directory: pathlib.Path, ids: numpy.ndarray) -> numpy.ndarray:
    """The rows of half.npy, for token ids, integer [T]."""
    model = reference_logits.load_model(directory)
    expected = reference_logits.compute_logits(model, ids)
    size = numpy.linalg.norm(expected, axis=1)

    def error(found: numpy.ndarray) -> numpy.ndarray:
        return numpy.linalg.norm(found - expected, axis=1) / size

    with computing(model, torch.matmul, torch.float32):
        off = error(reference_logits.compute_logits(model, ids)).max()
    if off > SAME:
        raise SystemExit(f"error: {directory}: the recurrence written here is not that of transformers: {off:.1e}")
    model = model.half()
    found = [reference_logits.compute_logits(model, ids)]
    for order in ORDERS:
        with computing(model, partial(summed_in_half, order), torch.float16):
            found.append(reference_logits.compute_logits(model, ids))
    return numpy.stack([error(one) for one in found]).astype(numpy.float16)


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
            off = numpy.abs(stored.astype(float) - made).max() / stored.max()
            if stored.shape != made.shape or off > TOLERANCE:
                raise SystemExit(f"error: {path} differs by {off:.2f} of its largest value")
        else:
            numpy.save(path, made)
        plain, summed = made[0].astype(float), made[1:].astype(float)
        print(
            f"{name}: mean {plain.mean():.4f}, largest {plain.max():.4f}; "
            f"summed in float16 mean {summed.mean():.4f}, largest {summed.max():.4f}, median of the largest {numpy.median(summed.max(1)):.4f}"
        )


if __name__ == "__main__":
    main()
