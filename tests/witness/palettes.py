"""Palettized weights of a package, decoded by others: single values with numpy alone, each element `lut[index]` of
its group, and vectors as coremltools itself decodes the operation.

    python palettes.py PACKAGES DECODED

PACKAGES is a folder with .mlpackage folders, and DECODED what the example `decode` of the cpu runtime made of it:
one .npy for each output of a constexpr operation, in PACKAGE/FUNCTION/NAME.npy. All bits must be equal. One line on
stdout for each number of bits and size of the groups; the exit code is 1 if a bit differs, a file is missing, or a
number of bits does not occur.
"""

import argparse
import collections
import collections.abc
import dataclasses
import pathlib
import sys

import numpy
from coremltools.converters.mil.mil.ops.defs.iOS18.compression import constexpr_lut_to_dense

import witness

WIDTHS = {1, 2, 3, 4, 6, 8}


@dataclasses.dataclass
class Palettized:
    """One palettized weight of one function."""

    function: str
    name: str
    bits: int
    indices: numpy.ndarray  # integer, the weight's shape
    lut: numpy.ndarray  # [groups of each axis …, 2^bits, numbers of an entry]
    vector_axis: int | None

    @property
    def group(self) -> int:
        """How many output channels (axis 0) share a table."""
        return self.indices.shape[0] // self.lut.shape[0]

    def decode(self) -> numpy.ndarray:
        """The weight, of the table's dtype."""
        if self.vector_axis is not None:
            return constexpr_lut_to_dense.decompress(self.indices, self.lut, self.vector_axis)
        axes = []
        for axis, (size, groups) in enumerate(zip(self.indices.shape, self.lut.shape)):
            group_of = numpy.arange(size) // (size // groups)
            axes.append(group_of.reshape([-1 if other == axis else 1 for other in range(self.indices.ndim)]))
        return self.lut[(*axes, self.indices, 0)]


def palettized(package: pathlib.Path) -> collections.abc.Iterator[Palettized]:
    """Every output of a `constexpr_lut_to_dense` of iOS 18 form."""
    model_path = witness.read_manifest(package)
    model = witness.Model_pb2.Model()
    model.ParseFromString(model_path.read_bytes())
    values = witness.Values(witness.Blobs(model_path.parent))
    for function_name, function in sorted(model.mlProgram.functions.items()):
        constants = {}
        for operation in function.block_specializations[function.opset].operations:
            if operation.type == "const":
                constants[operation.outputs[0].name] = operation.attributes["val"]
            if operation.type != "constexpr_lut_to_dense":
                continue
            arguments = {}
            for name, argument in operation.inputs.items():
                binding = argument.arguments[0]
                by_name = binding.WhichOneof("binding") == "name"
                arguments[name] = constants[binding.name] if by_name else binding.value
            kind = witness.read_type(arguments["indices"].type)
            yield Palettized(
                function=function_name,
                name=operation.outputs[0].name,
                bits=witness.DTYPES[kind.dtype][0],
                indices=values.read(arguments["indices"]),
                lut=values.read(arguments["lut"]),
                vector_axis=int(values.read(arguments["vector_axis"])) if "vector_axis" in arguments else None,
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=pathlib.Path, metavar="PACKAGES")
    parser.add_argument("decoded", type=pathlib.Path, metavar="DECODED")
    arguments = parser.parse_args()
    equal = collections.Counter()
    problems = []
    for package in witness.find_packages([arguments.packages]):
        folder = arguments.decoded / package.relative_to(arguments.packages)
        for weight in palettized(package):
            path = folder / weight.function / f"{weight.name}.npy"
            if not path.is_file():
                problems.append(f"{path} does not exist")
                continue
            ours, theirs = weight.decode(), numpy.load(path)
            if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
                problems.append(f"{path}: {theirs.dtype} {theirs.shape}, expected {ours.dtype} {ours.shape}")
            elif ours.tobytes() != theirs.tobytes():
                different = int((ours.view(numpy.uint16) != theirs.view(numpy.uint16)).sum())
                problems.append(f"{path}: {different} of {ours.size} values differ")
            else:
                whole = weight.group == weight.indices.shape[0]
                form = "the whole tensor" if whole else f"{weight.group} channels"
                equal[weight.bits, form if weight.vector_axis is None else f"{form}, in vectors"] += 1
    for (bits, group), count in sorted(equal.items(), key=str):
        print(f"ok   {bits} bits, one table for {group}: {count} weights have equal bits")
    if missing := WIDTHS - {bits for bits, _ in equal}:
        problems.append(f"no weight has {' or '.join(str(bits) for bits in sorted(missing))} bits")
    for problem in problems:
        print(f"FAIL {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
