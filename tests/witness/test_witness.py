"""Self-test of witness.py: it must accept a sound package, and refuse every spoilt copy of it, for the right reason.

    python test_witness.py PACKAGE

PACKAGE must be an .mlpackage with several functions, a state, a constexpr operation and a weight file, for example a
combined, palettized FFN chunk. Copies are made in a temporary directory. The exit code is 0 if all went as it must.
"""

import argparse
import pathlib
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable

import witness
from coremltools.proto import FeatureTypes_pb2, MIL_pb2, Model_pb2

Model = Model_pb2.Model
Spoil = Callable[[Model, bytearray], None]  # changes the model and the bytes of weight.bin in place


def first_function(model: Model) -> tuple[str, object]:
    name = sorted(model.mlProgram.functions)[0]
    return name, model.mlProgram.functions[name]


def operations(model: Model) -> list:
    """The operations of the first function's block."""
    _, function = first_function(model)
    return function.block_specializations[function.opset].operations


def first_operation(model: Model, wanted: Callable[[object], bool], what: str) -> object:
    for operation in operations(model):
        if wanted(operation):
            return operation
    raise SystemExit(f"error: the package has no {what}: give another one")


def constexpr(model: Model) -> object:
    return first_operation(model, lambda operation: operation.type == "constexpr_lut_to_dense" and operation.inputs, "iOS 18 constexpr_lut_to_dense")


def constexpr_value(model: Model, name: str) -> object:
    return constexpr(model).inputs[name].arguments[0].value


def computed(model: Model) -> object:
    return first_operation(model, lambda operation: operation.type in ("mul", "add", "conv"), "mul, add or conv")


def blob_const(model: Model) -> object:
    return first_operation(
        model,
        lambda operation: operation.type == "const" and operation.attributes["val"].WhichOneof("value") == "blobFileValue",
        "const in weight.bin",
    )


def described(model: Model) -> object:
    """The description of the first function."""
    name, _ = first_function(model)
    for function in model.description.functions:
        if function.name == name:
            return function
    return model.description


def first_size(operation: object) -> object:
    """The first dimension of the operation's first output."""
    return operation.outputs[0].type.tensorType.dimensions[0].constant


def description_shape(model: Model, _weights: bytearray) -> None:
    described(model).input[0].type.multiArrayType.shape[-1] += 1


def description_dtype(model: Model, _weights: bytearray) -> None:
    array = described(model).input[0].type.multiArrayType
    array.dataType = FeatureTypes_pb2.ArrayFeatureType.DOUBLE


def description_output(model: Model, _weights: bytearray) -> None:
    described(model).output[0].name += "x"


def description_state_shape(model: Model, _weights: bytearray) -> None:
    described(model).state[0].type.stateType.arrayType.shape[0] += 1


def description_top_level(model: Model, _weights: bytearray) -> None:
    model.description.input.add().CopyFrom(described(model).input[0])


def default_function(model: Model, _weights: bytearray) -> None:
    model.description.defaultFunctionName = "absent"


def missing_function(model: Model, _weights: bytearray) -> None:
    del model.description.functions[0]


def constexpr_shape(model: Model, _weights: bytearray) -> None:
    first_size(constexpr(model)).size += 1


def constexpr_dtype(model: Model, _weights: bytearray) -> None:
    constexpr(model).outputs[0].type.tensorType.dataType = MIL_pb2.FLOAT32


def constexpr_index_width(model: Model, _weights: bytearray) -> None:
    constexpr_value(model, "indices").type.tensorType.dataType = MIL_pb2.UINT8


def constexpr_without_table(model: Model, _weights: bytearray) -> None:
    del constexpr(model).inputs["lut"]


def blob_offset_between(model: Model, _weights: bytearray) -> None:
    constexpr_value(model, "indices").blobFileValue.offset += 64


def blob_offset_unaligned(model: Model, _weights: bytearray) -> None:
    constexpr_value(model, "indices").blobFileValue.offset += 8


def blob_offset_outside(model: Model, weights: bytearray) -> None:
    constexpr_value(model, "indices").blobFileValue.offset = (len(weights) + 6400) // 64 * 64


def blob_of_other_dtype(model: Model, _weights: bytearray) -> None:
    indices = constexpr_value(model, "indices").blobFileValue
    blob_const(model).attributes["val"].blobFileValue.offset = indices.offset


def blob_sentinel(model: Model, weights: bytearray) -> None:
    offset = blob_const(model).attributes["val"].blobFileValue.offset
    weights[offset : offset + 4] = struct.pack("<I", 0xDEADBEE0)


def blob_size(model: Model, weights: bytearray) -> None:
    offset = blob_const(model).attributes["val"].blobFileValue.offset
    (size,) = struct.unpack("<Q", weights[offset + 8 : offset + 16])
    weights[offset + 8 : offset + 16] = struct.pack("<Q", size - 2)


def blob_file_cut(_model: Model, weights: bytearray) -> None:
    del weights[len(weights) // 2 :]


def blob_file_name(model: Model, _weights: bytearray) -> None:
    blob_const(model).attributes["val"].blobFileValue.fileName = "@model_path/../weight.bin"


def const_type(model: Model, _weights: bytearray) -> None:
    first_size(blob_const(model)).size += 1


def computed_shape(model: Model, _weights: bytearray) -> None:
    first_size(computed(model)).size += 1


def computed_dtype(model: Model, _weights: bytearray) -> None:
    computed(model).outputs[0].type.tensorType.dataType = MIL_pb2.FLOAT32


def use_before_definition(model: Model, _weights: bytearray) -> None:
    sequence = operations(model)
    moved = MIL_pb2.Operation()
    moved.CopyFrom(computed(model))
    for index, operation in enumerate(sequence):
        if operation.outputs and moved.outputs and operation.outputs[0].name == moved.outputs[0].name:
            del sequence[index]
            break
    sequence.insert(0, moved)


def defined_twice(model: Model, _weights: bytearray) -> None:
    sequence = operations(model)
    sequence.insert(0, blob_const(model))


def identifier(model: Model, _weights: bytearray) -> None:
    # Nothing needs to use the name: an added constant.
    added = operations(model).add()
    added.CopyFrom(blob_const(model))
    added.outputs[0].name = "layer.0/weight"


def name_of_other_function(model: Model, _weights: bytearray) -> None:
    """A name which only the function before defines: coremltools' single table of names would let it pass."""
    first, second = sorted(model.mlProgram.functions)[:2]
    owner, borrower = model.mlProgram.functions[first], model.mlProgram.functions[second]
    own = next(operation for operation in operations(model) if operation.type == "const").outputs[0].name
    added = owner.block_specializations[owner.opset].operations.add()
    added.CopyFrom(next(operation for operation in operations(model) if operation.outputs and operation.outputs[0].name == own))
    added.outputs[0].name = "only_here"
    for operation in borrower.block_specializations[borrower.opset].operations:
        for argument in operation.inputs.values():
            if argument.arguments[0].WhichOneof("binding") == "name":
                argument.arguments[0].name = "only_here"
                return


def state_dtype(model: Model, _weights: bytearray) -> None:
    for entry in first_function(model)[1].inputs:
        if entry.type.WhichOneof("type") == "stateType":
            entry.type.stateType.wrappedType.tensorType.dataType = MIL_pb2.FLOAT32
            return
    raise SystemExit("error: the package has no state: give another one")


def block_output(model: Model, _weights: bytearray) -> None:
    _, function = first_function(model)
    function.block_specializations[function.opset].outputs[0] = "absent"


def old_specification(model: Model, _weights: bytearray) -> None:
    model.specificationVersion = 8


# What is spoilt, and a part of the problem which must be told.
SPOILS: list[tuple[Spoil, str]] = [
    (description_shape, "is described with size"),
    (description_dtype, "is described as float64"),
    (description_output, "of the program is not described"),
    (description_state_shape, "state `"),
    (description_top_level, "outside of its functions"),
    (default_function, "its default function `absent`"),
    (missing_function, "of the program is not described"),
    (constexpr_shape, "where its arguments give"),
    (constexpr_dtype, "where its arguments give"),
    (constexpr_index_width, "weight.bin record"),
    (constexpr_without_table, "missing"),
    (blob_offset_between, "no sentinel"),
    (blob_offset_unaligned, "not a multiple of 64"),
    (blob_offset_outside, "outside the file"),
    (blob_of_other_dtype, "where the value is"),
    (blob_sentinel, "no sentinel"),
    (blob_size, "bytes where"),
    (blob_file_cut, "outside the file"),
    (blob_file_name, "is not @model_path"),
    (const_type, "but its value is"),
    (computed_shape, "coremltools"),
    (computed_dtype, "coremltools"),
    (use_before_definition, "not defined before its use"),
    (defined_twice, "defined a second time"),
    (identifier, "is no identifier"),
    (name_of_other_function, "not defined before its use"),
    (state_dtype, "it must be float16"),
    (block_output, "`absent` is not defined"),
    (old_specification, "needs specification version"),
]


def spoilt_verdict(package: pathlib.Path, copy: pathlib.Path, spoil: Spoil) -> witness.Verdict:
    """What the witness says of a copy of `package` after `spoil`."""
    shutil.copytree(package, copy)
    model_path = witness.read_manifest(copy)
    weights_path = model_path.parent / "weights" / "weight.bin"
    for path in (model_path, weights_path):
        path.chmod(0o644)
    model = Model()
    model.ParseFromString(model_path.read_bytes())
    weights = bytearray(weights_path.read_bytes())
    spoil(model, weights)
    model_path.write_bytes(model.SerializeToString())
    weights_path.write_bytes(weights)
    return witness.witness(copy)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=pathlib.Path, metavar="PACKAGE")
    package = parser.parse_args().package
    problems = witness.witness(package).problems
    if problems:
        print(f"FAIL the package itself is refused: {problems[0]}")
        return 1
    print("ok   the package itself is accepted")
    failed = 0
    for spoil, expected in SPOILS:
        with tempfile.TemporaryDirectory() as temporary:
            copy = pathlib.Path(temporary) / package.name
            problems = spoilt_verdict(package, copy, spoil).problems
        matching = [problem for problem in problems if expected in problem]
        if matching:
            print(f"ok   {spoil.__name__}: {matching[0]}")
        else:
            failed += 1
            print(f"FAIL {spoil.__name__}: expected a problem with {expected!r}, got {problems[:3] or 'none'}")
    print(f"{len(SPOILS) - failed} of {len(SPOILS)} spoilt copies were refused for the right reason")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
