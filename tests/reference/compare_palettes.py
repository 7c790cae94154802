"""Compare palettized weights of a conversion with what coremltools 9.0 would make of the same weights.

    python compare_palettes.py --model DIR --tensors NAME[,NAME…] PACKAGE [PACKAGE …]

DIR is the Hugging Face directory that was converted, PACKAGE an .mlpackage of the conversion, NAME a tensor of the
model such as `model.layers.0.mlp.up_proj.weight` (`--tensors all` takes all that the packages have).

Three columns, mean squared errors against the fp16 weight:
  * ours: indices and tables of the package, put together with numpy;
  * exact: `_get_kmeans_lookup_table_and_weight(…, force_kmeans1d=True)`, the dynamic program that coremltools takes
    by itself for groups of at least 10 000 fp16 values;
  * scikit-learn: KMeans(init="k-means++", tol=1e-2, n_init=1, random_state=0), which it takes for smaller groups.
As in coremltools' palettizer the tables are rounded to fp16 after clustering, and the indices stay as they were.
`taken` says which of the two coremltools takes for these groups.

It needs `pip install coremltools==9.0 scikit-learn==1.5.1 safetensors`, the newest scikit-learn that coremltools 9.0
accepts.
"""

import argparse
import logging
import pathlib
import sys

import numpy
from safetensors import safe_open

logging.disable(logging.WARNING)
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "witness"))
import palettes  # noqa: E402
from coremltools.models.neural_network import quantization_utils  # noqa: E402

EXACT_FROM = 10_000  # values of a group, quantization_utils.py


def by_scikit_learn(bits: int, group: numpy.ndarray) -> tuple:
    """coremltools' path for small groups, also for large ones: it takes kmeans1d for fp16 alone, and scikit-learn
    computes in float64 what comes as fp16."""
    return quantization_utils._get_kmeans_lookup_table_and_weight(bits, group.astype(numpy.float64))


def exact(bits: int, group: numpy.ndarray) -> tuple:
    return quantization_utils._get_kmeans_lookup_table_and_weight(bits, group, force_kmeans1d=True)


def squared_error(weight: numpy.ndarray, decoded: numpy.ndarray) -> float:
    """Mean squared difference, in float64."""
    return float(((weight.astype(numpy.float64) - decoded.astype(numpy.float64)) ** 2).mean())


def clustered(path, bits: int, group: int, weight: numpy.ndarray) -> numpy.ndarray:
    """`weight` [out, in] after coremltools' k-means in groups of `group` rows."""
    decoded = numpy.empty_like(weight)
    for start in range(0, weight.shape[0], group):
        part = weight[start : start + group]
        lut, indices = path(bits, part)
        lut = numpy.asarray(lut).reshape(-1).astype(weight.dtype)
        decoded[start : start + group] = lut[numpy.asarray(indices).reshape(-1)].reshape(part.shape)
    return decoded


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--tensors", required=True, metavar="NAMES")
    parser.add_argument("packages", type=pathlib.Path, nargs="+", metavar="PACKAGE")
    arguments = parser.parse_args()
    wanted = None if arguments.tensors == "all" else set(arguments.tensors.split(","))
    source = {}
    for path in sorted(arguments.model.glob("*.safetensors")):
        file = safe_open(path, framework="numpy")
        source.update({name: file for name in file.keys()})
    if wanted is not None and (unknown := wanted - set(source)):
        raise SystemExit(f"error: the model has no tensor {', '.join(sorted(unknown))}")

    print("| tensor | shape | bits, group | ours | exact | scikit-learn | ours / exact - 1 | ours / scikit-learn - 1 | taken |")
    print("|---|---|---|---|---|---|---|---|---|")
    seen = set()
    for package in arguments.packages:
        for found in palettes.palettized(package):
            # In the program, a weight's name ends like its tensor's name, with `_` for what is no letter or digit.
            names = [
                name
                for name in (source if wanted is None else wanted)
                if name.endswith("_proj.weight") and found.name.endswith(name.replace(".", "_"))
            ]
            if len(names) != 1 or names[0] in seen:
                continue
            name = names[0]
            seen.add(name)
            weight = source[name].get_tensor(name).astype(numpy.float16)
            ours = found.decode().reshape(weight.shape)
            errors = [
                squared_error(weight, ours),
                squared_error(weight, clustered(exact, found.bits, found.group, weight)),
                squared_error(weight, clustered(by_scikit_learn, found.bits, found.group, weight)),
            ]
            taken = "exact" if found.group * weight.shape[1] >= EXACT_FROM else "scikit-learn"
            shape = "x".join(str(size) for size in weight.shape)
            columns = " | ".join(f"{error:.6e}" for error in errors)
            ratios = " | ".join(f"{100 * (errors[0] / other - 1):+.3f} %" for other in errors[1:])
            print(f"| {name} | {shape} | {found.bits}, {found.group} | {columns} | {ratios} | {taken} |", flush=True)
    if not seen or (wanted is not None and seen != wanted):
        raise SystemExit(f"error: not in these packages: {', '.join(sorted((wanted or set(source)) - seen))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
