"""Write golden/streams.npy of some models below tests/models/variants: the residual stream behind each layer.

    python make_streams.py [--check] [--only NAME ...]

    streams.npy float32 [layers, T, width] what each layer gives, before the last norm (transformers, float32, CPU, eager)
                for the first T tokens of ids.npy

Families that only transformers 5 knows are made where that is installed (requirements-5.txt), all others with the
version of requirements.txt; the others are left alone.
"""

import argparse
import pathlib

import numpy
import torch

import make_variants
import reference_logits

TOKENS = 48
TOLERANCE = 1e-4  # of the largest value
NAMES = (
    "gemma2",
    "gemma3",
    "granite",
    "lfm2",
    "mistral-short-window",
    "olmo2",
    "olmo3",
    "phi3-window",
    "qwen2-tied",
    "qwen3-tied",
    "qwen3_5",
    "smollm3",
    "stablelm",
    "tied",
)


def streams(directory: pathlib.Path, ids: numpy.ndarray) -> numpy.ndarray:
    """What each layer gives, float32 [layers, T, width], for token ids, integer [T]."""
    model = reference_logits.load_model(directory)
    found: list[numpy.ndarray] = []

    def note(_module: torch.nn.Module, _inputs: tuple, output: torch.Tensor | tuple) -> None:
        value = output[0] if isinstance(output, tuple) else output
        found.append(value.reshape(-1, value.shape[-1]).float().numpy().copy())

    for layer in model.model.layers:
        layer.register_forward_hook(note)
    reference_logits.compute_logits(model, ids)
    return numpy.stack(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with what is stored instead of writing")
    parser.add_argument("--only", nargs="*", default=NAMES, metavar="NAME")
    arguments = parser.parse_args()
    reference_logits.use_threads(1)
    root = pathlib.Path(__file__).resolve().parent.parent / "models" / "variants"
    for name in arguments.only:
        newer = make_variants.VARIANTS[name].family in make_variants.NEWER
        if newer != (reference_logits.VERSION >= 5):
            print(f"{name}: left alone, another version of transformers makes it")
            continue
        golden = root / name / "golden"
        made = streams(root / name, numpy.load(golden / "ids.npy")[:TOKENS])
        path = golden / "streams.npy"
        if arguments.check:
            off = numpy.abs(numpy.load(path) - made).max() / numpy.abs(made).max()
            if off > TOLERANCE:
                raise SystemExit(f"error: {path} differs by {off:.1e} of the largest value")
            print(f"{name}: as stored")
        else:
            numpy.save(path, made)
            print(f"{name}: {made.shape}")


if __name__ == "__main__":
    main()
