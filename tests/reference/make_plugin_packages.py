"""Write the Core ML models in the templates of `anemll plugin new`, with coremltools.

    python make_plugin_packages.py            # needs ../witness/requirements.txt
    python make_plugin_packages.py --check    # fail if the numbers of a stored reference would change

    runtime/reference.mlpackage    main: y = relu(x * scale + offset), x float16 (2, 8)
    runtime/reference.json         an input and what numpy makes of it, in float16
    compiler/reference.mlpackage   main: y = linear(x) + relu(x), x float16 (1, 16); its matrix lies in weight.bin
    combiner/functions/*.mlmodel   one and many: y = relu(x) + x, x float16 (1, 8) and (4, 8)
"""

import argparse
import json
import pathlib
import shutil

import coremltools
import numpy
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types

TEMPLATES = pathlib.Path(__file__).resolve().parent.parent.parent / "crates" / "scaffold" / "templates"
SCALE = numpy.array([1.5, -0.25, 2.0, 0.5, -1.0, 3.0, 0.125, -2.5], dtype=numpy.float16)
OFFSET = numpy.array([0.5, 1.0, -1.5, 0.0, 2.0, -0.125, 4.0, 0.25], dtype=numpy.float16)


def example() -> tuple[numpy.ndarray, numpy.ndarray]:
    """An input, float16 (2, 8), and its output, rounded to float16 after every operation."""
    x = (numpy.arange(16, dtype=numpy.float16) * numpy.float16(0.37) - numpy.float16(2.1)).reshape(2, 8)
    return x, numpy.maximum(x * SCALE + OFFSET, numpy.float16(0))


def convert(shape: tuple[int, ...], body) -> coremltools.models.MLModel:
    @mb.program(input_specs=[mb.TensorSpec(shape, types.fp16)], opset_version=coremltools.target.iOS18)
    def program(x):
        return body(x)

    return coremltools.convert(
        program,
        minimum_deployment_target=coremltools.target.iOS18,
        compute_precision=coremltools.precision.FLOAT16,
        pass_pipeline=coremltools.PassPipeline.EMPTY,
        skip_model_load=True,
    )


def save(model: coremltools.models.MLModel, path: pathlib.Path) -> None:
    if path.exists():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(str(path))
    # An empty folder is not kept with the sources, and a package must not name what it does not have.
    weights = path / "Data" / "com.apple.CoreML" / "weights"
    if weights.is_dir() and not any(weights.iterdir()):
        weights.rmdir()
        manifest = json.loads((path / "Manifest.json").read_text())
        entries = manifest["itemInfoEntries"]
        manifest["itemInfoEntries"] = {key: item for key, item in entries.items() if not item["path"].endswith("/weights")}
        (path / "Manifest.json").write_text(json.dumps(manifest, indent=4) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing: compare the numbers")
    arguments = parser.parse_args()
    x, y = example()
    numbers = {"x": x.flatten().tolist(), "y": y.flatten().tolist()}
    reference = TEMPLATES / "runtime" / "reference.json"
    if arguments.check:
        if json.loads(reference.read_text()) != numbers:
            raise SystemExit(f"error: the numbers of {reference} change")
        return

    save(
        convert((2, 8), lambda x: mb.relu(x=mb.add(x=mb.mul(x=x, y=SCALE), y=OFFSET), name="y")),
        TEMPLATES / "runtime" / "reference.mlpackage",
    )
    reference.write_text(json.dumps(numbers) + "\n")

    random = numpy.random.default_rng(7)
    matrix = random.standard_normal((16, 16)).astype(numpy.float16)
    save(
        convert((1, 16), lambda x: mb.add(x=mb.linear(x=x, weight=matrix), y=mb.relu(x=x), name="y")),
        TEMPLATES / "compiler" / "reference.mlpackage",
    )

    folder = TEMPLATES / "combiner" / "functions"
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in [("one", 1), ("many", 4)]:
        model = convert((rows, 8), lambda x: mb.add(x=mb.relu(x=x), y=x, name="y"))
        (folder / f"{name}.mlmodel").write_bytes(model.get_spec().SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
