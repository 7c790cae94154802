"""What coremltools says of `anemll combine`, `split` and `dedup` on packages that coremltools made itself.

    python combine_witness.py --anemll PROGRAM --output FOLDER

Makes small packages of every kind of weight (plain, palettized in both forms, sparse, affine, block-wise, with states,
with several functions), joins them with the program, loads the results with coremltools, and compares every decoded
weight of every function with that of its source. For each case one line on stdout; the exit code is 1 if one failed.
The joined packages stay in FOLDER/combined, where witness.py can look at them too, and FOLDER/combined-older: functions
for iOS 16 in a model of specification version 9, which coremltools' loader takes for functions for iOS 18.
"""

import argparse
import json
import logging
import pathlib
import shutil
import struct
import subprocess
import sys

import numpy

logging.disable(logging.WARNING)
import coremltools  # noqa: E402
from coremltools.converters.mil import Builder  # noqa: E402
from coremltools.converters.mil.frontend.milproto import load as milproto  # noqa: E402
from coremltools.converters.mil.mil import types  # noqa: E402
from coremltools.optimize import coreml as optimize  # noqa: E402
from coremltools.proto import Model_pb2  # noqa: E402

WIDTH = 64
NOISE = numpy.random.default_rng(7)
WEIGHTS = [NOISE.standard_normal((WIDTH, WIDTH)).astype(numpy.float16) * 0.1 for _ in range(3)]
SPECIFICATIONS = {"CoreML5": 6, "CoreML6": 7, "CoreML7": 8, "CoreML8": 9, "CoreML9": 10}
IOS16, IOS18 = coremltools.target.iOS16, coremltools.target.iOS18


def model(tokens: int, target: object, state: bool = False) -> object:
    """Three linear layers on `tokens` rows, fp16, the second with a name of its own for each number of rows."""
    inputs = [Builder.TensorSpec(shape=(tokens, WIDTH), dtype=types.fp16)]
    if state:
        inputs.append(Builder.StateTensorSpec((4, WIDTH), dtype=types.fp16))

    def layers(x: object) -> object:
        for number, weight in enumerate(WEIGHTS):
            x = Builder.linear(x=x, weight=weight, name=f"layer_{number}_{tokens if number == 1 else 0}")
        return x

    if state:

        @Builder.program(input_specs=inputs, opset_version=target)
        def program(x: object, cache: object) -> object:
            old = Builder.read_state(input=cache)
            new = Builder.coreml_update_state(state=cache, value=Builder.mul(x=old, y=numpy.float16(2)))
            row = Builder.reduce_sum(x=new, axes=[0], keep_dims=True)
            return Builder.add(x=layers(x), y=row, name="y")

    else:

        @Builder.program(input_specs=inputs, opset_version=target)
        def program(x: object) -> object:
            return Builder.relu(x=layers(x), name="y")

    return coremltools.convert(
        program, convert_to="mlprogram", minimum_deployment_target=target, compute_precision=coremltools.precision.FLOAT16,
        compute_units=coremltools.ComputeUnit.CPU_ONLY, skip_model_load=True,
    )  # fmt: skip


def palettes(mode: str, bits: int, joint: bool = False, **more: object) -> object:
    config = optimize.OpPalettizerConfig(mode=mode, nbits=bits, weight_threshold=16, **more)
    return lambda it: optimize.palettize_weights(it, optimize.OptimizationConfig(global_config=config), joint_compression=joint)


def quantized(**how: object) -> object:
    config = optimize.OpLinearQuantizerConfig(weight_threshold=16, **how)
    return lambda it: optimize.linear_quantize_weights(it, optimize.OptimizationConfig(global_config=config))


def pruned() -> object:
    config = optimize.OpThresholdPrunerConfig(threshold=0.1, weight_threshold=16, minimum_sparsity_percentile=0.1)
    return lambda it: optimize.prune_weights(it, optimize.OptimizationConfig(global_config=config))


KINDS = {
    "plain-16": (IOS16, None),
    "plain-18": (IOS18, None),
    "palettized-16": (IOS16, palettes("uniform", 4)),
    "palettized-16-2bits": (IOS16, palettes("uniform", 2)),
    "palettized-18": (IOS18, palettes("uniform", 4, granularity="per_grouped_channel", group_size=8)),
    "palettized-18-3bits": (IOS18, palettes("uniform", 3)),
    "sparse-16": (IOS16, pruned()),
    "sparse-18": (IOS18, pruned()),
    "affine-16": (IOS16, quantized(mode="linear_symmetric", dtype="int8")),
    "affine-18": (IOS18, quantized(mode="linear", dtype="uint8")),
    "blockwise-18": (IOS18, quantized(mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=32)),
    "sparse-palettized-18": (IOS18, lambda it: palettes("uniform", 4, joint=True)(pruned()(it))),
}


def inside(package: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """The model file and the weight file of a package."""
    folder = package / "Data" / "com.apple.CoreML"
    return folder / "model.mlmodel", folder / "weights" / "weight.bin"


def decoded(package: pathlib.Path) -> dict[str, dict[str, numpy.ndarray]]:
    """Every constant array of at least 10 elements, decoded by coremltools: by function and name."""
    specification = Model_pb2.Model()
    model_path, weights = inside(package)
    specification.ParseFromString(model_path.read_bytes())
    # coremltools reads all functions by the rules of one operation set: the one that they are written for, which may
    # be older than the specification version that several functions need.
    opset = next(iter(specification.mlProgram.functions.values())).opset
    specification.specificationVersion = SPECIFICATIONS[opset]
    program = milproto.load(specification, SPECIFICATIONS[opset], str(weights.parent))
    found: dict[str, dict[str, numpy.ndarray]] = {}
    for name, function in program.functions.items():
        values = found.setdefault(name, {})
        for operation in function.operations:
            if operation.op_type.startswith("constexpr_"):
                value = operation.materialized_val_inference()
                for output, array in zip(operation.outputs, value if isinstance(value, tuple) else (value,)):
                    values[output.name] = numpy.asarray(array)
            elif operation.op_type == "const" and isinstance(operation.val.val, numpy.ndarray) and operation.val.val.size >= 10:
                # Operands of a constexpr are constants here; they may differ where what they decode to does not.
                if not any(child.op_type.startswith("constexpr_") for child in operation.outputs[0].child_ops):
                    values[operation.outputs[0].name] = operation.val.val
    return found


def compare(result: pathlib.Path, sources: dict[str, tuple[pathlib.Path, str]]) -> int:
    """Every weight of every function equals that of its source, bit by bit; gives how many there are."""
    ours = decoded(result)
    assert set(ours) == set(sources), f"functions {sorted(ours)}"
    count = 0
    for name, (path, function) in sources.items():
        theirs = decoded(path)[function]
        assert set(theirs) == set(ours[name]), f"{name}: {sorted(set(theirs) ^ set(ours[name]))}"
        for key, array in theirs.items():
            mine = ours[name][key]
            same = mine.dtype == array.dtype and mine.shape == array.shape and mine.tobytes() == array.tobytes()
            assert same, f"{name}: {key} differs"
            count += 1
    assert count, "no weights"
    return count


def changed(source: pathlib.Path, target: pathlib.Path, nudge: int = 0) -> None:
    """A copy whose 4-bit palettes are in another order, with indices to match, and `nudge` units larger in magnitude."""
    shutil.copytree(source, target)
    specification = Model_pb2.Model()
    model_path, weights = inside(target)
    specification.ParseFromString(model_path.read_bytes())
    data = bytearray(weights.read_bytes())

    def record(value: object) -> slice:
        size, start = struct.unpack_from("<QQ", data, value.blobFileValue.offset + 8)
        return slice(start, start + size)

    for function in specification.mlProgram.functions.values():
        for operation in function.block_specializations[function.opset].operations:
            if operation.type != "constexpr_lut_to_dense":
                continue
            if operation.inputs:
                lut, indices = (operation.inputs[name].arguments[0].value for name in ("lut", "indices"))
            else:
                lut, indices = operation.attributes["lut"], operation.attributes["indices"]
            table = numpy.frombuffer(bytes(data[record(lut)]), numpy.uint16).reshape(-1, 16)
            packed = numpy.frombuffer(bytes(data[record(indices)]), numpy.uint8)
            flat = numpy.stack([packed & 15, packed >> 4], axis=1).reshape(-1)
            per_table = flat.size // len(table)
            for row in range(len(table)):
                order = NOISE.permutation(16)
                back = numpy.argsort(order)
                table = table.copy()
                table[row] = table[row][order] + nudge
                flat = flat.copy()
                flat[row * per_table : (row + 1) * per_table] = back[flat[row * per_table : (row + 1) * per_table]]
            data[record(lut)] = table.tobytes()
            pairs = flat.astype(numpy.uint8).reshape(-1, 2)
            data[record(indices)] = (pairs[:, 0] | (pairs[:, 1] << 4)).tobytes()
    weights.write_bytes(bytes(data))


class Cases:
    """Runs the program, and counts what failed."""

    def __init__(self, program: pathlib.Path, folder: pathlib.Path) -> None:
        self.program, self.folder, self.failed = program, folder, 0
        self.sources = folder / "sources"
        shutil.rmtree(folder, ignore_errors=True)
        for made in (self.sources, self.results("18"), self.results("16")):
            made.mkdir(parents=True)

    def results(self, name: str) -> pathlib.Path:
        """The folder for a case's results: those with functions for iOS 16 are apart."""
        return self.folder / ("combined-older" if "16" in name.split("-") else "combined")

    def anemll(self, *arguments: object) -> dict:
        done = subprocess.run([self.program, *map(str, arguments), "--json"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(map(str, arguments))}: {done.stderr}"
        return json.loads(done.stdout)

    def make(self, name: str, made: object) -> pathlib.Path:
        path = self.sources / f"{name}.mlpackage"
        made.save(str(path))
        return path

    def check(self, name: str, test: object) -> None:
        try:
            print(f"ok {name}: {test()}", flush=True)
        except Exception as error:  # the next case goes on
            self.failed += 1
            print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)

    def join(self, name: str, sources: dict[str, tuple[pathlib.Path, str]], *more: object) -> tuple[pathlib.Path, dict]:
        result = self.results(name) / f"{name}.mlpackage"
        named = [f"{function}={path}:{theirs}" for function, (path, theirs) in sources.items()]
        report = self.anemll("combine", *named, "--output", result, *more)
        return result, report["packages"][0]


def weight_size(package: pathlib.Path) -> int:
    return inside(package)[1].stat().st_size


def kind_case(cases: Cases, name: str) -> str:
    """infer and prefill of one kind share all weights, exactly, and coremltools' own joining takes no less."""
    target, compress = KINDS[name]
    parts = {}
    for function, tokens in (("infer", 1), ("prefill", 8)):
        made = model(tokens, target)
        parts[function] = (cases.make(f"{name}-{function}", compress(made) if compress else made), "main")
    result, report = cases.join(name, parts)
    count = compare(result, parts)
    largest = max(weight_size(path) for path, _ in parts.values())
    assert weight_size(result) <= largest * 1.01, f"{weight_size(result)} bytes of {largest}"
    peer = cases.sources / f"{name}-peer.mlpackage"
    descriptor = coremltools.utils.MultiFunctionDescriptor()
    for function, (path, theirs) in parts.items():
        descriptor.add_function(str(path), theirs, function)
    descriptor.default_function_name = "infer"
    try:
        coremltools.utils.save_multifunction(descriptor, str(peer))
        beside = f"coremltools {weight_size(peer)}"
    except Exception as error:  # it cannot join all kinds
        beside = f"coremltools: {type(error).__name__}"
    out = cases.results(name) / f"{name}-split.mlpackage"
    cases.anemll("split", result, "--function", "prefill", "--output", out)
    compare(out, {"main": parts["prefill"]})
    # coremltools stores the equal biases of one function several times, so a source may be larger.
    assert weight_size(out) <= weight_size(parts["prefill"][0]), "split left weights of others"
    totals = report["totals"]
    return f"{count} weights, {totals['exact']} exact, {weight_size(result)} bytes, {beside}"


def semantic_case(cases: Cases, name: str) -> str:
    """Permuted palettes are found, and decode to the same values after all."""
    source = cases.sources / f"{name}-prefill.mlpackage"
    other = cases.sources / f"{name}-permuted.mlpackage"
    changed(source, other)
    parts = {"infer": (cases.sources / f"{name}-infer.mlpackage", "main"), "prefill": (other, "main")}
    assert {k: v.tobytes() for k, v in decoded(source)["main"].items()} == {k: v.tobytes() for k, v in decoded(other)["main"].items()}
    result, report = cases.join(f"{name}-permuted", parts)
    count = compare(result, parts)
    totals = report["totals"]
    assert totals["semantic"] == len(WEIGHTS), totals
    assert weight_size(result) <= weight_size(parts["infer"][0])
    return f"{count} weights, {totals['semantic']} semantic, {weight_size(result)} bytes"


def approximate_case(cases: Cases) -> str:
    """Weights that differ by a trifle are shared only within a tolerance, and the errors told are numpy's."""
    near = cases.sources / "near-prefill.mlpackage"
    changed(cases.sources / "palettized-18-prefill.mlpackage", near, nudge=2)
    first = cases.sources / "palettized-18-infer.mlpackage"
    parts = {"infer": (first, "main"), "prefill": (near, "main")}
    _, report = cases.join("near-apart", parts)
    assert report["totals"]["approximate"] == 0
    result, report = cases.join("near-together", parts, "--tolerance", "cos=0.9999,mae=0.001")
    assert report["totals"]["approximate"] == len(WEIGHTS), report["totals"]
    ours, left, right = decoded(result), decoded(first)["main"], decoded(near)["main"]
    for tensor in report["tensors"]:
        if tensor["sharing"] != "approximate":
            continue
        partner = tensor["with"].split("/")[1]
        a, b = left[partner].astype(numpy.float64).ravel(), right[tensor["name"]].astype(numpy.float64).ravel()
        cosine = a @ b / numpy.sqrt((a @ a) * (b @ b))
        assert abs(tensor["cosine"] - cosine) < 1e-9, tensor
        assert abs(tensor["largest_error"] - numpy.abs(a - b).max()) < 1e-12, tensor
        assert abs(tensor["mean_error"] - numpy.abs(a - b).mean()) < 1e-12, tensor
        assert (ours["prefill"][tensor["name"]] == left[partner]).all(), tensor["name"]
    return f"{report['totals']['approximate']} approximate"


def state_case(cases: Cases) -> str:
    parts = {
        "infer": (cases.make("state-infer", model(1, IOS18, state=True)), "main"),
        "prefill": (cases.make("state-prefill", model(8, IOS18, state=True)), "main"),
    }
    result, _ = cases.join("state", parts)
    return f"{compare(result, parts)} weights"


def several_case(cases: Cases) -> str:
    """Functions out of a package which coremltools joined, with a third one."""
    peer = cases.sources / "palettized-18-peer.mlpackage"
    third = cases.make("plain-18-third", model(4, IOS18))
    parts = {"short": (peer, "infer"), "long": (peer, "prefill"), "other": (third, "main")}
    result, report = cases.join("several", parts, "--default", "long")
    specification = Model_pb2.Model()
    specification.ParseFromString(inside(result)[0].read_bytes())
    assert specification.description.defaultFunctionName == "long"
    assert [function.name for function in specification.description.functions] == ["short", "long", "other"]
    compared = cases.anemll("dedup", peer, third)
    assert compared["weight_bytes"] == report["weight_bytes"], "dedup and combine disagree"
    return f"{compare(result, parts)} weights"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anemll", required=True, type=pathlib.Path, help="the program")
    parser.add_argument("--output", required=True, type=pathlib.Path, help="folder for the packages; made anew")
    arguments = parser.parse_args()
    cases = Cases(arguments.anemll, arguments.output)
    for name in KINDS:
        cases.check(name, lambda name=name: kind_case(cases, name))
    for name in ("palettized-16", "palettized-18"):
        cases.check(f"{name} permuted", lambda name=name: semantic_case(cases, name))
    cases.check("approximate", lambda: approximate_case(cases))
    cases.check("states", lambda: state_case(cases))
    cases.check("several functions", lambda: several_case(cases))
    return 1 if cases.failed else 0


if __name__ == "__main__":
    sys.exit(main())
