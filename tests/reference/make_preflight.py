"""Write preflight/: a very small llama model whose activations leave the range of float16, and where they do.

    python make_preflight.py [--check]

`model/` holds config.json and the weights (random, seeded, float16). In layer 1 the gated product of the MLP passes
65504; what its down projection adds lifts the residual stream to within a factor of 2 of 65504, where it stays.
    ids.npy    int32 [T] token ids
    peaks.json the largest |value| of each layer (transformers, float32, CPU, eager), with its sign, token and place,
               over the outputs of all modules and the inputs of the norms and projections
"""

import argparse
import json
import pathlib
import shutil
import tempfile

import numpy
import torch

import make_variants
import reference_logits
from reference_json import write_json

POSITIONS = 150
LAYER = 1  # of three
PRODUCT = 120_000.0  # largest product of gate and up projection there
RESIDUAL = 45_000.0  # largest value of the residual stream after it
TOLERANCE = 1e-3

VARIANT = make_variants.Variant({"num_hidden_layers": 3, "tie_word_embeddings": False}, positions=POSITIONS)


def layer_peaks(config: dict, weights: make_variants.Weights, ids: numpy.ndarray) -> list[dict[str, dict]]:
    """For each layer, the largest value of each place: its sign kept, and its token."""
    model = make_variants.reference_model(config, weights)
    found: list[dict[str, dict]] = [{} for _ in model.model.layers]

    def note(layer: int, place: str, value: torch.Tensor) -> None:
        rows = value[0].reshape(value.shape[1], -1)
        token = int(rows.abs().amax(dim=1).argmax())
        column = int(rows[token].abs().argmax())
        found[layer][place] = {"peak": float(rows[token, column]), "position": token}

    def watch(layer: int, name: str, module: torch.nn.Module) -> None:
        module.register_forward_pre_hook(lambda _module, inputs: note(layer, f"input of {name}", inputs[0]))
        module.register_forward_hook(lambda _module, _inputs, output: note(layer, f"output of {name}", output))

    for layer, module in enumerate(model.model.layers):
        for name, inner in module.named_modules():
            if name.endswith(("proj", "norm")):
                watch(layer, name, inner)
        module.register_forward_hook(
            lambda _module, _inputs, output, layer=layer: note(
                layer, "output of the layer", output[0] if isinstance(output, tuple) else output
            )
        )
    with torch.no_grad():
        model(torch.from_numpy(ids.astype(numpy.int64))[None], use_cache=False)
    return found


def scale(weights: make_variants.Weights, name: str, factor: float) -> None:
    weights[name] = (weights[name].float() * factor).to(weights[name].dtype)


def make_weights(config: dict, ids: numpy.ndarray) -> make_variants.Weights:
    """Random weights, with the up and down projections of LAYER scaled so that PRODUCT and RESIDUAL are reached."""
    weights = make_variants.draw_weights("preflight", VARIANT)
    mlp = f"model.layers.{LAYER}.mlp"
    before = layer_peaks(config, weights, ids)[LAYER]
    scale(weights, f"{mlp}.up_proj.weight", PRODUCT / abs(before["input of mlp.down_proj"]["peak"]))
    before = layer_peaks(config, weights, ids)[LAYER]
    scale(weights, f"{mlp}.down_proj.weight", RESIDUAL / abs(before["output of the layer"]["peak"]))
    return weights


def summarize(found: list[dict[str, dict]]) -> dict:
    """The contents of peaks.json."""
    layers = []
    for places in found:
        place = max(places, key=lambda place: abs(places[place]["peak"]))
        layers.append({**places[place], "place": place, "residual": places["output of the layer"]})
    peaks = [abs(layer["peak"]) for layer in layers]
    if not (peaks[0] < 32752 and peaks[LAYER] > 65504 and 32752 < peaks[2] < 65504):
        raise SystemExit(f"error: the peaks {peaks} are not one within, one beyond and one near the range of float16")
    return {"layers": layers}


def write(directory: pathlib.Path) -> None:
    """Write the whole directory anew."""
    if directory.exists():
        shutil.rmtree(directory)
    model = directory / "model"
    model.mkdir(parents=True)
    config, ids = make_variants.config_of(VARIANT), make_variants.draw_ids("preflight", VARIANT)
    weights = make_weights(config, ids)
    write_json(model / "config.json", config)
    make_variants.write_weights(model, weights, VARIANT.shards)
    numpy.save(directory / "ids.npy", ids)
    write_json(directory / "peaks.json", summarize(layer_peaks(config, weights, ids)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing: fail if a stored file would change")
    arguments = parser.parse_args()
    reference_logits.use_threads(1)
    stored = pathlib.Path(__file__).resolve().parent / "preflight"
    if not arguments.check:
        write(stored)
        print((stored / "peaks.json").read_text())
        return
    with tempfile.TemporaryDirectory() as temporary:
        fresh = pathlib.Path(temporary) / "preflight"
        write(fresh)
        old, new = (json.loads((place / "peaks.json").read_text())["layers"] for place in (stored, fresh))
        for layer, (known, found) in enumerate(zip(old, new, strict=True)):
            same = (known["place"], known["position"]) == (found["place"], found["position"])
            if not same or abs(known["peak"] / found["peak"] - 1) > TOLERANCE:
                raise SystemExit(f"error: the peak of layer {layer} changes from {known} to {found}")
    print("ok")


if __name__ == "__main__":
    main()
