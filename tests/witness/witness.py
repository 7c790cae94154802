"""An independent witness that Core ML packages are sound: coremltools' own loader, and what that loader leaves out.

    python witness.py PATH [PATH ...] [--json]

PATH is an .mlpackage, or a folder in which all of them are sought. For each, one line on stdout:
    ok PATH functions=infer,prefill ops=512
or, for each problem, `PATH: where: what is wrong`. The exit code is 0 if all packages were accepted, 1 if one was
refused, 2 if there was none. `--json` prints one JSON object instead, with the histogram of operation types per
package and function.

coremltools builds the program again through its MIL frontend, which infers nearly every type anew. It compares these
types only where operations are neither `const` nor `constexpr_*`, never reads the description, and keeps one table of
names for all functions. So this script itself checks the manifest, the description against the functions, each
operation's declared types against the inferred ones, every constexpr operation against its arguments, every value's
bytes (immediate or in weight.bin) against its type, the order of definitions, and the identifiers.
"""

import argparse
import collections
import dataclasses
import json
import logging
import multiprocessing
import pathlib
import re
import struct
import sys

import numpy

logging.disable(logging.WARNING)  # coremltools tells of the parts that exist on macOS only
from coremltools.converters.mil.frontend.milproto import load as milproto  # noqa: E402
from coremltools.converters.mil.mil import types  # noqa: E402
from coremltools.proto import FeatureTypes_pb2, MIL_pb2, Model_pb2  # noqa: E402

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_@]*")
OPSETS = {"CoreML5": 6, "CoreML6": 7, "CoreML7": 8, "CoreML8": 9, "CoreML9": 10}  # and the specification that brought it
FIRST_WITH_FUNCTIONS = 9  # specification version which brought multifunction models, states and sub-byte types

# Name in MIL's protobuf: (bits per element, dtype code in weight.bin or None, immediate field or None)
DTYPES = {
    "BOOL": (8, None, "bools"),
    "STRING": (0, None, "strings"),
    "FLOAT16": (16, 1, "bytes"),
    "FLOAT32": (32, 2, "floats"),
    "FLOAT64": (64, None, "doubles"),
    "BFLOAT16": (16, 5, "bytes"),
    "INT8": (8, 4, "bytes"),
    "INT16": (16, 6, "ints"),
    "INT32": (32, 14, "ints"),
    "INT64": (64, None, "longInts"),
    "INT4": (4, 8, "bytes"),
    "UINT8": (8, 3, "bytes"),
    "UINT16": (16, 7, "ints"),
    "UINT32": (32, 15, "bytes"),
    "UINT64": (64, None, "longInts"),
    "UINT1": (1, 9, "bytes"),
    "UINT2": (2, 10, "bytes"),
    "UINT3": (3, 12, "bytes"),
    "UINT4": (4, 11, "bytes"),
    "UINT6": (6, 13, "bytes"),
    "FLOAT8E4M3FN": (8, 16, "bytes"),
    "FLOAT8E5M2": (8, 17, "bytes"),
}
BLOB_DTYPES = {code: name for name, (_, code, _) in DTYPES.items() if code is not None}
NUMPY_DTYPES = {
    "FLOAT16": "<f2", "FLOAT32": "<f4", "INT8": "i1", "INT16": "<i2", "INT32": "<i4",
    "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4",
}  # fmt: skip
INDEX_DTYPES = {"UINT1", "UINT2", "UINT3", "UINT4", "UINT6", "UINT8"}
TABLE_DTYPES = {"INT8", "UINT8", "FLOAT16", "FLOAT32"}
QUANTIZED_DTYPES = {"INT4", "UINT4", "INT8", "UINT8", "FLOAT16", "FLOAT32"}
SCALE_DTYPES = {"FLOAT16", "FLOAT32"}
SPARSE_DTYPES = {"INT4", "UINT4", "INT8", "UINT8", "FLOAT16", "FLOAT32"}


class Refused(Exception):
    """What is wrong at one place; the checks around it go on."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor's type: dtype by its name in MIL's protobuf, shape with None for an unknown size."""

    dtype: str
    shape: tuple

    @property
    def count(self) -> int:
        result = 1
        for size in self.shape:
            result *= size
        return result

    @property
    def is_static(self) -> bool:
        return all(size is not None for size in self.shape)

    def __str__(self) -> str:
        return f"{self.dtype.lower()}[{', '.join('?' if size is None else str(size) for size in self.shape)}]"


@dataclasses.dataclass(frozen=True)
class State:
    """A state's type: that of the tensor which it holds."""

    wrapped: Tensor

    def __str__(self) -> str:
        return f"state<{self.wrapped}>"


@dataclasses.dataclass(frozen=True)
class Other:
    """A list, tuple or dictionary: only its kind is looked at."""

    kind: str

    def __str__(self) -> str:
        return self.kind


@dataclasses.dataclass
class Definition:
    """What a name stands for: its declared type, and its constant value where it has one."""

    type: object
    value: object = None  # MIL_pb2.Value
    operation: str = ""


def read_type(value_type: MIL_pb2.ValueType) -> object:
    """A protobuf value type as Tensor, State or Other."""
    kind = value_type.WhichOneof("type")
    if kind == "stateType":
        wrapped = read_type(value_type.stateType.wrappedType)
        if not isinstance(wrapped, Tensor):
            raise Refused(f"a state of {wrapped}, which is no tensor")
        return State(wrapped)
    if kind != "tensorType":
        return Other(kind or "no type")
    tensor = value_type.tensorType
    if tensor.dataType not in MIL_pb2.DataType.values() or tensor.dataType == 0:
        raise Refused(f"unknown data type {tensor.dataType}")
    if tensor.rank != len(tensor.dimensions):
        raise Refused(f"rank {tensor.rank} but {len(tensor.dimensions)} dimensions")
    shape = []
    for dimension in tensor.dimensions:
        if dimension.WhichOneof("dimension") == "constant":
            shape.append(int(dimension.constant.size))
        elif dimension.WhichOneof("dimension") == "unknown" and not dimension.unknown.variadic:
            shape.append(None)
        else:
            raise Refused("a dimension that is neither constant nor unknown")
    if any(size == 0 for size in shape):
        raise Refused(f"a dimension of size 0 in {shape}")
    return Tensor(MIL_pb2.DataType.Name(tensor.dataType), tuple(shape))


class Blobs:
    """The weight files of one package, read by the rules of MIL's blob storage, version 2."""

    def __init__(self, model_directory: pathlib.Path) -> None:
        self.directory = model_directory
        self.files: dict[str, numpy.ndarray] = {}
        self.offsets: dict[str, set[int]] = collections.defaultdict(set)

    def open(self, name: str) -> numpy.ndarray:
        if name in self.files:
            return self.files[name]
        prefix = "@model_path/"
        parts = name[len(prefix) :].split("/")
        if not name.startswith(prefix) or ".." in parts or parts[0] != "weights" or len(parts) != 2:
            raise Refused(f"weight file `{name}` is not @model_path/weights/NAME")
        path = self.directory.joinpath(*parts)
        if not path.is_file():
            raise Refused(f"weight file `{name}` does not exist in the package")
        data = numpy.memmap(path, dtype=numpy.uint8, mode="r") if path.stat().st_size else numpy.zeros(0, numpy.uint8)
        if len(data) < 64:
            raise Refused(f"weight file `{name}` has {len(data)} bytes, its header alone needs 64")
        _, version = struct.unpack("<II", data[:8].tobytes())
        if version != 2:
            raise Refused(f"weight file `{name}` has storage version {version}, not 2")
        self.files[name] = data
        return data

    def read(self, name: str, offset: int, expected: Tensor) -> numpy.ndarray:
        """The bytes of the record at `offset`, uint8 [n]; refused unless it is a sound record of type `expected`."""
        data = self.open(name)
        at = f"weight.bin record at {offset}"
        if offset % 64 != 0 or offset < 64:
            raise Refused(f"{at}: the offset is not a multiple of 64 behind the header")
        if offset + 64 > len(data):
            raise Refused(f"{at}: lies outside the file of {len(data)} bytes")
        sentinel, code, size, start, padding = struct.unpack("<IIQQQ", data[offset : offset + 32].tobytes())
        if sentinel != 0xDEADBEEF:
            raise Refused(f"{at}: no sentinel 0xDEADBEEF but {sentinel:#010x}: not a record's beginning")
        bits, wanted_code, _ = DTYPES[expected.dtype]
        if wanted_code is None:
            raise Refused(f"{at}: values of {expected.dtype.lower()} cannot lie in a weight file")
        if code != wanted_code:
            raise Refused(f"{at}: dtype {BLOB_DTYPES.get(code, code)} where the value is {expected.dtype}")
        if start % 64 != 0:
            raise Refused(f"{at}: its data start at {start}, not a multiple of 64")
        if start + size > len(data):
            raise Refused(f"{at}: its data end at {start + size}, outside the file of {len(data)} bytes")
        wanted_size, wanted_padding = (expected.count * bits + 7) // 8, -expected.count * bits % 8
        if size != wanted_size:
            raise Refused(f"{at}: {size} bytes where {expected} needs {wanted_size}")
        if padding != wanted_padding:
            raise Refused(f"{at}: {padding} bits of padding where {expected} has {wanted_padding}")
        record = data[start : start + size]
        check_padding(record, wanted_padding, at)
        self.offsets[name].add(offset)
        return record

    def check_counts(self) -> list[str]:
        """Problems of the headers: fewer records than the program refers to."""
        problems = []
        for name, offsets in self.offsets.items():
            count = struct.unpack("<I", self.files[name][:4].tobytes())[0]
            if count < len(offsets):
                problems.append(f"{name}: the header counts {count} records, the program refers to {len(offsets)}")
        return problems


def check_padding(packed: numpy.ndarray, padding: int, where: str) -> None:
    """Refuse set bits behind the last element of packed sub-byte values, uint8 [n]."""
    if padding and len(packed) and int(packed[-1]) >> (8 - padding):
        raise Refused(f"{where}: bits are set behind the last element")


def unpack(packed: numpy.ndarray, dtype: str, shape: tuple) -> numpy.ndarray:
    """Elements of packed bytes, uint8 [n]: their numpy dtype, or int64 for sub-byte ones; low bits come first."""
    if dtype in NUMPY_DTYPES:
        return numpy.frombuffer(packed.tobytes(), dtype=NUMPY_DTYPES[dtype]).reshape(shape)
    bits = DTYPES[dtype][0]
    if bits >= 8:
        raise Refused(f"values of {dtype.lower()} are not known to this script")
    count = int(numpy.prod(shape, dtype=numpy.int64))
    digits = numpy.unpackbits(packed, bitorder="little")[: count * bits].reshape(count, bits).astype(numpy.int64)
    values = (digits << numpy.arange(bits)).sum(axis=1)
    if dtype.startswith("INT"):
        values -= (values >= 1 << (bits - 1)).astype(numpy.int64) << bits
    return values.reshape(shape)


class Values:
    """Checks and reads MIL values, immediate or in a weight file."""

    def __init__(self, blobs: Blobs) -> None:
        self.blobs = blobs

    def check(self, value: MIL_pb2.Value) -> object:
        """The value's type; refused unless its bytes suit this type."""
        kind = read_type(value.type)
        stored = value.WhichOneof("value")
        if stored is None:
            raise Refused("a value without contents")
        if isinstance(kind, State):
            raise Refused("a constant of state type")
        if isinstance(kind, Other):
            if stored != "immediateValue" or value.immediateValue.WhichOneof("value") == "tensor":
                raise Refused(f"a value of {kind} whose contents are of another kind")
            return kind
        if not kind.is_static:
            raise Refused(f"a value of {kind}: its shape must be known")
        if stored == "blobFileValue":
            self.blobs.read(value.blobFileValue.fileName, value.blobFileValue.offset, kind)
            return kind
        if value.immediateValue.WhichOneof("value") != "tensor":
            raise Refused(f"a value of {kind} whose contents are no tensor")
        tensor = value.immediateValue.tensor
        bits, _, field = DTYPES[kind.dtype]
        if tensor.WhichOneof("value") != field:
            raise Refused(f"an immediate value of {kind} in field `{tensor.WhichOneof('value')}`, not `{field}`")
        contents = getattr(tensor, field).values
        if field == "bytes":
            wanted = (kind.count * bits + 7) // 8
            if len(contents) != wanted:
                raise Refused(f"an immediate value of {len(contents)} bytes where {kind} needs {wanted}")
            if bits < 8:
                packed = numpy.frombuffer(contents, numpy.uint8)
                check_padding(packed, -kind.count * bits % 8, "an immediate value")
        elif len(contents) != kind.count:
            raise Refused(f"an immediate value of {len(contents)} elements where {kind} has {kind.count}")
        return kind

    def read(self, value: MIL_pb2.Value) -> object:
        """The elements as a numpy array, or the text of a scalar string."""
        kind = read_type(value.type)
        if value.WhichOneof("value") == "blobFileValue":
            packed = self.blobs.read(value.blobFileValue.fileName, value.blobFileValue.offset, kind)
            return unpack(packed, kind.dtype, kind.shape)
        field = DTYPES[kind.dtype][2]
        contents = getattr(value.immediateValue.tensor, field).values
        if field == "bytes":
            return unpack(numpy.frombuffer(contents, numpy.uint8), kind.dtype, kind.shape)
        if field == "strings":
            return contents[0]
        return numpy.array(contents).reshape(kind.shape)


# ---------------------------------------------------------------------------------------------------------------
# constexpr operations: what their outputs must be


class Arguments:
    """The arguments of one constexpr operation, by name: a Definition each."""

    def __init__(self, definitions: dict[str, Definition], values: Values) -> None:
        self.definitions = definitions
        self.values = values

    def __contains__(self, name: str) -> bool:
        return name in self.definitions

    def allow(self, required: str, optional: str = "") -> None:
        """Refuse missing and unknown arguments; both lists are names with spaces between."""
        missing = set(required.split()) - set(self.definitions)
        unknown = set(self.definitions) - set(required.split()) - set(optional.split())
        if missing or unknown:
            raise Refused(f"missing arguments {sorted(missing)}, unknown arguments {sorted(unknown)}")

    def tensor(self, name: str, dtypes: set[str]) -> Tensor:
        kind = self.definitions[name].type
        if not isinstance(kind, Tensor) or not kind.is_static:
            raise Refused(f"argument `{name}` is {kind}, not a tensor of known shape")
        if kind.dtype not in dtypes:
            raise Refused(f"argument `{name}` is {kind}, its dtype must be one of {', '.join(sorted(dtypes)).lower()}")
        return kind

    def has_value(self, name: str) -> bool:
        return self.definitions[name].value is not None

    def value(self, name: str) -> object:
        if not self.has_value(name):
            raise Refused(f"argument `{name}` must be a constant")
        return self.values.read(self.definitions[name].value)


def vector_axis(arguments: Arguments, rank: int, vector_size: int) -> int:
    """The axis along which vectors of a lookup table lie, counted from 0; 0 if they are single values."""
    if "vector_axis" not in arguments:
        if vector_size > 1:
            raise Refused(f"the table holds vectors of {vector_size}, but there is no `vector_axis`")
        return 0
    if arguments.tensor("vector_axis", {"INT32"}).shape != ():
        raise Refused("`vector_axis` is not a scalar")
    axis = int(arguments.value("vector_axis"))
    if not -rank <= axis < rank:
        raise Refused(f"`vector_axis` is {axis}, the rank is {rank}")
    return axis % rank


def table_vector_size(indices_dtype: str, indices_shape: tuple, lut: Tensor) -> int:
    """The size of an iOS 18 lookup table's vectors; refused unless the table suits the indices."""
    rank = len(indices_shape)
    if rank < 1 or len(lut.shape) != rank + 2:
        raise Refused(f"the table has rank {len(lut.shape)}, the indices have rank {rank}: it must have two more")
    for axis, (size, groups) in enumerate(zip(indices_shape, lut.shape)):
        if size % groups:
            raise Refused(f"axis {axis}: {groups} tables do not divide {size} indices")
    entries = 1 << DTYPES[indices_dtype][0]
    if lut.shape[-2] != entries:
        raise Refused(f"{lut.shape[-2]} table entries for indices of {indices_dtype.lower()}, which needs {entries}")
    return lut.shape[-1]


def with_vectors(shape: tuple, axis: int, vector_size: int) -> tuple:
    return tuple(size * vector_size if index == axis else size for index, size in enumerate(shape))


def old_form_shape(arguments: Arguments) -> tuple:
    """The `shape` argument of iOS 16's flat constexpr operations."""
    if len(arguments.tensor("shape", {"UINT32"}).shape) != 1:
        raise Refused("argument `shape` is no vector")
    return tuple(int(size) for size in arguments.value("shape"))


def lut_to_dense(arguments: Arguments) -> list[Tensor]:
    lut = arguments.tensor("lut", TABLE_DTYPES)
    if "shape" in arguments:  # iOS 16
        arguments.allow("indices lut shape")
        indices = arguments.tensor("indices", {"UINT8"})
        shape = old_form_shape(arguments)
        if len(lut.shape) != 1 or lut.shape[0] not in (2, 4, 16, 64, 256):
            raise Refused(f"the table is {lut}, not a vector of 2, 4, 16, 64 or 256")
        bits = lut.shape[0].bit_length() - 1
        result = Tensor(lut.dtype, shape)
        if indices.shape != ((result.count * bits + 7) // 8,):
            raise Refused(f"the indices are {indices}, {result} with {bits} bits needs {(result.count * bits + 7) // 8} bytes")
        return [result]
    arguments.allow("indices lut", "vector_axis")
    indices = arguments.tensor("indices", INDEX_DTYPES)
    vector_size = table_vector_size(indices.dtype, indices.shape, lut)
    axis = vector_axis(arguments, len(indices.shape), vector_size)
    return [Tensor(lut.dtype, with_vectors(indices.shape, axis, vector_size))]


def check_scales(arguments: Arguments, data_dtype: str, data_shape: tuple) -> Tensor:
    """The scale's type, where scale and offset of blockwise quantization suit the data."""
    scale = arguments.tensor("scale", SCALE_DTYPES)
    if len(data_shape) < 1 or len(scale.shape) != len(data_shape):
        raise Refused(f"data of shape {data_shape} and scale {scale} must have one rank, at least 1")
    for axis, (size, blocks) in enumerate(zip(data_shape, scale.shape)):
        if size % blocks:
            raise Refused(f"axis {axis}: {blocks} scales do not divide {size} elements")
    if "offset" in arguments:
        offset = arguments.tensor("offset", QUANTIZED_DTYPES)
        if offset.shape != scale.shape:
            raise Refused(f"offset {offset} has not the shape of scale {scale}")
        if offset.dtype not in SCALE_DTYPES and offset.dtype != data_dtype:
            raise Refused(f"offset {offset} has neither the data's dtype {data_dtype.lower()} nor a float's")
    return scale


def blockwise_shift_scale(arguments: Arguments) -> list[Tensor]:
    arguments.allow("data scale", "offset")
    data = arguments.tensor("data", QUANTIZED_DTYPES)
    return [Tensor(check_scales(arguments, data.dtype, data.shape).dtype, data.shape)]


def affine_dequantize(arguments: Arguments) -> list[Tensor]:
    arguments.allow("quantized_data zero_point scale axis")
    data = arguments.tensor("quantized_data", {"INT8", "UINT8"})
    scale = arguments.tensor("scale", SCALE_DTYPES)
    zero_point = arguments.tensor("zero_point", {"INT8", "UINT8", "FLOAT32"})
    if arguments.tensor("axis", {"INT32"}).shape != ():
        raise Refused("`axis` is not a scalar")
    axis = int(arguments.value("axis"))
    if not -len(data.shape) <= axis < len(data.shape):
        raise Refused(f"`axis` is {axis}, the data are {data}")
    for name, kind in (("scale", scale), ("zero_point", zero_point)):
        if kind.shape not in ((), (data.shape[axis],)):
            raise Refused(f"`{name}` is {kind}: neither scalar nor a vector of {data.shape[axis]}")
    if zero_point.dtype != "FLOAT32" and zero_point.dtype != data.dtype:
        raise Refused(f"`zero_point` is {zero_point}, the data are {data}")
    return [Tensor(scale.dtype, data.shape)]


def check_nonzero_count(arguments: Arguments, mask: str, nonzero: Tensor) -> None:
    """Refuse a sparse tensor whose mask has another number of ones than it has values."""
    if len(nonzero.shape) != 1:
        raise Refused(f"the non-zero values are {nonzero}, not a vector")
    if arguments.has_value(mask):
        ones = int(numpy.count_nonzero(arguments.value(mask)))
        if ones != nonzero.shape[0]:
            raise Refused(f"the mask has {ones} ones, but there are {nonzero.shape[0]} values")


def sparse_to_dense(arguments: Arguments) -> list[Tensor]:
    if "shape" in arguments:  # iOS 16
        arguments.allow("nonzero_data mask shape")
        nonzero = arguments.tensor("nonzero_data", TABLE_DTYPES)
        mask = arguments.tensor("mask", {"UINT8"})
        result = Tensor(nonzero.dtype, old_form_shape(arguments))
        if mask.shape != ((result.count + 7) // 8,):
            raise Refused(f"the mask is {mask}, {result} needs {(result.count + 7) // 8} bytes")
        bits = numpy.unpackbits(arguments.value("mask"), bitorder="little")
        if bits[result.count :].any():
            raise Refused("bits are set in the mask behind the last element")
        if nonzero.shape != (int(bits.sum()),):
            raise Refused(f"the mask has {int(bits.sum())} ones, the values are {nonzero}")
        return [result]
    arguments.allow("nonzero_data mask")
    nonzero = arguments.tensor("nonzero_data", SPARSE_DTYPES)
    mask = arguments.tensor("mask", {"UINT1"})
    check_nonzero_count(arguments, "mask", nonzero)
    return [Tensor(nonzero.dtype, mask.shape)]


def lut_to_sparse(arguments: Arguments) -> list[Tensor]:
    arguments.allow("indices_mask indices_nonzero_data lut", "vector_axis")
    mask = arguments.tensor("indices_mask", {"UINT1"})
    nonzero = arguments.tensor("indices_nonzero_data", INDEX_DTYPES)
    lut = arguments.tensor("lut", TABLE_DTYPES)
    check_nonzero_count(arguments, "indices_mask", nonzero)
    vector_size = table_vector_size(nonzero.dtype, mask.shape, lut)
    axis = vector_axis(arguments, len(mask.shape), vector_size)
    shape = with_vectors(mask.shape, axis, vector_size)
    return [Tensor("UINT1", shape), Tensor(lut.dtype, (nonzero.shape[0] * vector_size,))]


def sparse_blockwise_shift_scale(arguments: Arguments) -> list[Tensor]:
    arguments.allow("data_mask nonzero_data scale", "offset")
    mask = arguments.tensor("data_mask", {"UINT1"})
    nonzero = arguments.tensor("nonzero_data", QUANTIZED_DTYPES)
    check_nonzero_count(arguments, "data_mask", nonzero)
    scale = check_scales(arguments, nonzero.dtype, mask.shape)
    return [Tensor("UINT1", mask.shape), Tensor(scale.dtype, nonzero.shape)]


def cast(arguments: Arguments) -> list[Tensor]:
    arguments.allow("source_val output_dtype")
    source = arguments.tensor("source_val", {"FLOAT16"})
    arguments.tensor("output_dtype", {"STRING"})
    if arguments.value("output_dtype") != "fp32":
        raise Refused(f"`output_dtype` is {arguments.value('output_dtype')!r}, only fp32 is possible")
    return [Tensor("FLOAT32", source.shape)]


CONSTEXPR_RULES = {
    "constexpr_lut_to_dense": lut_to_dense,
    "constexpr_blockwise_shift_scale": blockwise_shift_scale,
    "constexpr_affine_dequantize": affine_dequantize,
    "constexpr_sparse_to_dense": sparse_to_dense,
    "constexpr_lut_to_sparse": lut_to_sparse,
    "constexpr_sparse_blockwise_shift_scale": sparse_blockwise_shift_scale,
    "constexpr_cast": cast,
}


# ---------------------------------------------------------------------------------------------------------------
# programs


@dataclasses.dataclass
class FunctionReport:
    """What one function holds."""

    inputs: dict[str, object]  # Tensor or State, by name
    outputs: dict[str, object]
    declared: dict[str, object]  # every operation output's type, by name
    histogram: collections.Counter


class ProgramReader:
    """Walks every function of a program, and gathers problems."""

    def __init__(self, values: Values, problems: list[str]) -> None:
        self.values = values
        self.problems = problems

    def refuse(self, where: str, what: object) -> None:
        self.problems.append(f"{where}: {what}")

    def check_identifier(self, where: str, name: str) -> None:
        if not IDENTIFIER.fullmatch(name):
            self.refuse(where, f"`{name}` is no identifier ([A-Za-z_][A-Za-z0-9_@]*)")

    def type_or_other(self, where: str, value_type: MIL_pb2.ValueType) -> object:
        try:
            return read_type(value_type)
        except Refused as refusal:
            self.refuse(where, refusal)
            return Other("a wrong type")

    def function(self, name: str, function: MIL_pb2.Function, specification: int) -> FunctionReport:
        where = f"function {name}"
        self.check_identifier(where, name)
        report = FunctionReport({}, {}, {}, collections.Counter())
        names: dict[str, Definition] = {}
        for entry in function.inputs:
            self.check_identifier(where, entry.name)
            if entry.name in names:
                self.refuse(where, f"two inputs are named `{entry.name}`")
            kind = self.type_or_other(f"{where}: input `{entry.name}`", entry.type)
            if isinstance(kind, State) and (not kind.wrapped.is_static or kind.wrapped.dtype != "FLOAT16"):
                self.refuse(where, f"state `{entry.name}` is {kind}: it must be float16 with a static shape")
            report.inputs[entry.name] = kind
            names[entry.name] = Definition(kind)
        if function.opset not in OPSETS:
            self.refuse(where, f"unknown opset `{function.opset}`")
        elif OPSETS[function.opset] > specification:
            self.refuse(where, f"opset {function.opset} needs specification version {OPSETS[function.opset]}, the model has {specification}")
        if function.opset not in function.block_specializations:
            self.refuse(where, f"no block for its opset {function.opset}")
            return report
        block = function.block_specializations[function.opset]
        self.block(where, block, names, report)
        for output in block.outputs:
            if output in report.outputs:
                self.refuse(where, f"output `{output}` is given twice")
            if output in names:
                report.outputs[output] = names[output].type
        return report

    def block(self, where: str, block: MIL_pb2.Block, names: dict[str, Definition], report: FunctionReport) -> None:
        for entry in block.inputs:
            self.check_identifier(where, entry.name)
            names[entry.name] = Definition(self.type_or_other(f"{where}: block input `{entry.name}`", entry.type))
        for operation in block.operations:
            outputs = ", ".join(output.name for output in operation.outputs)
            self.operation(f"{where}: {operation.type} `{outputs}`", operation, names, report)
        for output in block.outputs:
            if output not in names:
                self.refuse(where, f"block output `{output}` is not defined")

    def operation(self, where: str, operation: MIL_pb2.Operation, names: dict[str, Definition], report: FunctionReport) -> None:
        report.histogram[operation.type] += 1
        arguments: dict[str, Definition] = {}
        for key, value in operation.attributes.items():
            try:
                kind = self.values.check(value)
            except Refused as refusal:
                self.refuse(where, f"attribute `{key}`: {refusal}")
                continue
            if key != "name":
                arguments[key] = Definition(kind, value)
        for key, argument in operation.inputs.items():
            if not argument.arguments:
                self.refuse(where, f"argument `{key}` is empty")
            for binding in argument.arguments:
                definition = self.binding(f"{where}: argument `{key}`", binding, names)
                if definition is not None and len(argument.arguments) == 1:
                    arguments[key] = definition
        for inner in operation.blocks:
            self.block(f"{where}: inner block", inner, dict(names), report)

        declared = []
        for output in operation.outputs:
            self.check_identifier(where, output.name)
            if output.name in names:
                self.refuse(where, f"`{output.name}` is defined a second time")
            kind = self.type_or_other(where, output.type)
            declared.append(kind)
            report.declared[output.name] = kind
        self.special_rules(where, operation, arguments, declared)
        for output, kind in zip(operation.outputs, declared):
            value = operation.attributes["val"] if operation.type == "const" and "val" in operation.attributes else None
            names[output.name] = Definition(kind, value, operation.type)

    def binding(self, where: str, binding: MIL_pb2.Argument.Binding, names: dict[str, Definition]) -> Definition | None:
        kind = binding.WhichOneof("binding")
        if kind == "name":
            if binding.name not in names:
                self.refuse(where, f"`{binding.name}` is not defined before its use")
            return names.get(binding.name)
        if kind != "value":
            self.refuse(where, "neither a name nor a value")
            return None
        try:
            return Definition(self.values.check(binding.value), binding.value)
        except Refused as refusal:
            self.refuse(where, refusal)
            return None

    def special_rules(self, where: str, operation: MIL_pb2.Operation, arguments: dict[str, Definition], declared: list) -> None:
        """const, constexpr and state operations: those whose declared outputs coremltools does not compare, or lacks."""
        if operation.type == "const":
            if "val" not in arguments:
                self.refuse(where, "a const without a sound `val`")
            elif [arguments["val"].type] != declared:
                self.refuse(where, f"declares {', '.join(map(str, declared))} but its value is {arguments['val'].type}")
        elif operation.type.startswith("constexpr_"):
            rule = CONSTEXPR_RULES.get(operation.type)
            if rule is None:
                self.refuse(where, "a constexpr operation that this script does not know")
                return
            for key, definition in arguments.items():
                if definition.value is None and not definition.operation.startswith("constexpr_"):
                    self.refuse(where, f"argument `{key}` is neither a constant nor a constexpr operation's output")
            try:
                wanted = rule(Arguments(arguments, self.values))
            except Refused as refusal:
                self.refuse(where, refusal)
                return
            except KeyError as missing:
                self.refuse(where, f"argument {missing} is missing")
                return
            if wanted != declared:
                self.refuse(where, f"declares {', '.join(map(str, declared))} where its arguments give {', '.join(map(str, wanted))}")
        elif operation.type in ("read_state", "write_state"):
            state = arguments["input"].type if "input" in arguments else None
            if not isinstance(state, State):
                self.refuse(where, f"`input` is {state}, not a state")
                return
            if operation.type == "read_state" and declared != [state.wrapped]:
                self.refuse(where, f"declares {', '.join(map(str, declared))} where the state is {state}")
            if operation.type == "write_state":
                data = arguments["data"].type if "data" in arguments else None
                if data != state.wrapped:
                    self.refuse(where, f"writes {data} to {state}")
                if declared:
                    self.refuse(where, "write_state has no outputs")


# ---------------------------------------------------------------------------------------------------------------
# descriptions


FEATURE_DTYPES = {
    FeatureTypes_pb2.ArrayFeatureType.FLOAT16: "FLOAT16",
    FeatureTypes_pb2.ArrayFeatureType.FLOAT32: "FLOAT32",
    FeatureTypes_pb2.ArrayFeatureType.DOUBLE: "FLOAT64",
    FeatureTypes_pb2.ArrayFeatureType.INT32: "INT32",
    FeatureTypes_pb2.ArrayFeatureType.INT8: "INT8",
}


def check_array(array: FeatureTypes_pb2.ArrayFeatureType, kind: Tensor, is_output: bool) -> None:
    """Refuse a description of an array which disagrees with the program's type for it."""
    dtype = FEATURE_DTYPES.get(array.dataType, f"type {array.dataType}")
    if dtype != kind.dtype:
        raise Refused(f"is described as {dtype.lower()}, the program has {kind}")
    default = tuple(array.shape)
    flexibility = array.WhichOneof("ShapeFlexibility")
    if is_output and not default and not flexibility and not kind.is_static:
        return  # coremltools leaves out the shape of an output whose size varies
    shapes = [default]
    if flexibility == "enumeratedShapes":
        enumerated = [tuple(shape.shape) for shape in array.enumeratedShapes.shapes]
        if len(set(enumerated)) != len(enumerated) or not enumerated:
            raise Refused(f"enumerates the shapes {enumerated}: none, or one twice")
        if default not in enumerated:
            raise Refused(f"has default shape {list(default)}, which is none of its enumerated shapes {enumerated}")
        shapes += enumerated
    ranges = []
    if flexibility == "shapeRange":
        ranges = [(bounds.lowerBound, bounds.upperBound) for bounds in array.shapeRange.sizeRanges]
        if len(ranges) != len(kind.shape):
            raise Refused(f"has {len(ranges)} size ranges, the program has {kind}")
    for shape in shapes:
        if len(shape) != len(kind.shape):
            raise Refused(f"is described with shape {list(shape)}, the program has {kind}")
    for axis, size in enumerate(kind.shape):
        described = {shape[axis] for shape in shapes}
        if any(value < 1 for value in described):
            raise Refused(f"axis {axis} is described with sizes {sorted(described)}")
        if ranges:
            low, high = ranges[axis]
            if low < 0 or (high >= 0 and high < low) or default[axis] < low or 0 <= high < default[axis]:
                raise Refused(f"axis {axis} has range {low} to {high} and default {default[axis]}")
            if low != high:
                described |= {low, high}
        if size is not None and described != {size}:
            raise Refused(f"axis {axis} is described with sizes {sorted(described)}, the program has {kind}")
        if size is None and len(described) == 1 and not is_output:
            raise Refused(f"axis {axis} is described with the one size {default[axis]}, the program has {kind}")


def check_features(where: str, features: object, wanted: dict[str, object], role: str, problems: list[str]) -> None:
    """Compare a description's features with the program's values, `wanted`: types by name."""
    names = [feature.name for feature in features]
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"{where}: {role} `{name}` is described twice")
    for name in sorted(set(wanted) - set(names)):
        problems.append(f"{where}: {role} `{name}` of the program is not described")
    for feature in features:
        if feature.name not in wanted:
            problems.append(f"{where}: the described {role} `{feature.name}` is not in the program")
            continue
        kind = wanted[feature.name]
        try:
            which = feature.type.WhichOneof("Type")
            if isinstance(kind, State):
                if which != "stateType":
                    raise Refused(f"is described as {which}, the program has {kind}")
                if feature.type.stateType.arrayType.WhichOneof("ShapeFlexibility"):
                    raise Refused("is a state with a flexible shape")
                check_array(feature.type.stateType.arrayType, kind.wrapped, is_output=False)
            elif isinstance(kind, Tensor):
                if which != "multiArrayType":
                    raise Refused(f"is described as {which}, the program has {kind}")
                check_array(feature.type.multiArrayType, kind, is_output=role == "output")
            else:
                raise Refused(f"is {kind} in the program, which this script does not know")
        except Refused as refusal:
            problems.append(f"{where}: {role} `{feature.name}` {refusal}")


def check_description(model: Model_pb2.Model, reports: dict[str, FunctionReport], problems: list[str]) -> None:
    """Compare the description with the program's functions."""
    description = model.description
    described: dict[str, object] = {}
    if description.functions:
        names = [function.name for function in description.functions]
        if len(set(names)) != len(names):
            problems.append(f"description: functions {names}: one is described twice")
        described = {function.name: function for function in description.functions}
        if description.input or description.output or description.state:
            problems.append("description: has inputs, outputs or states outside of its functions")
        if description.defaultFunctionName not in reports:
            problems.append(f"description: its default function `{description.defaultFunctionName}` is not in the program")
    else:
        if set(reports) != {"main"}:
            problems.append(f"description: describes no functions, so the program must have `main` alone, not {sorted(reports)}")
        if description.defaultFunctionName not in ("", "main"):
            problems.append(f"description: default function `{description.defaultFunctionName}` without functions")
        described = {"main": description}
    for name in sorted(set(described) - set(reports)):
        problems.append(f"description: function `{name}` is not in the program")
    states: dict[str, object] = {}
    uses_states = False
    for name, report in reports.items():
        if name not in described:
            problems.append(f"description: function `{name}` of the program is not described")
            continue
        where = f"description of {name}"
        arrays = {key: kind for key, kind in report.inputs.items() if not isinstance(kind, State)}
        own_states = {key: kind for key, kind in report.inputs.items() if isinstance(kind, State)}
        check_features(where, described[name].input, arrays, "input", problems)
        check_features(where, described[name].output, report.outputs, "output", problems)
        check_features(where, described[name].state, own_states, "state", problems)
        for state, kind in own_states.items():
            uses_states = True
            if states.setdefault(state, kind) != kind:
                problems.append(f"{where}: state `{state}` is {kind}, in another function {states[state]}")
    if model.specificationVersion < FIRST_WITH_FUNCTIONS and (description.functions or uses_states):
        problems.append(f"specification version {model.specificationVersion} has neither functions nor states: 9 is the first")


# ---------------------------------------------------------------------------------------------------------------
# coremltools


BUILTIN_NAMES = {builtin: MIL_pb2.DataType.Name(number) for number, builtin in types.PROTO_TO_BUILTIN_TYPE.items()}


def inferred_type(variable: object) -> object:
    """The type that coremltools gave a variable, as Tensor or Other."""
    kind = variable.sym_type
    if types.is_tensor(kind):
        shape = tuple(None if types.symbolic.is_symbolic(size) else int(size) for size in kind.get_shape())
        return Tensor(BUILTIN_NAMES[kind.get_primitive()], shape)
    if kind in BUILTIN_NAMES:
        return Tensor(BUILTIN_NAMES[kind], ())
    return Other("otherType")


def operations_of(block: object):
    """All operations of a coremltools block, with those of inner blocks."""
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from operations_of(inner)


def check_with_coremltools(model: Model_pb2.Model, weights: pathlib.Path, reports: dict[str, FunctionReport], problems: list[str]) -> None:
    """Load the program with coremltools, and compare the types that it infers with the declared ones, name by name."""
    load_operation = milproto._load_operation

    def load_named_operation(context: object, operation: MIL_pb2.Operation) -> None:
        # coremltools does not say which operation it refuses: the innermost one is told.
        try:
            load_operation(context, operation)
        except Refused:
            raise
        except Exception as error:
            outputs = []
            for output in operation.outputs:
                known = context.name_to_var.get(output.name)
                inferred = f", coremltools infers {inferred_type(known)}" if known is not None else ""
                outputs.append(f"`{output.name}` declared {read_type(output.type)}{inferred}")
            raise Refused(f"{operation.type} {'; '.join(outputs)}: {type(error).__name__}: {error}") from error

    milproto._load_operation = load_named_operation
    try:
        program = milproto.load(model, model.specificationVersion, str(weights))
    except Refused as refusal:
        problems.append(f"coremltools refuses {refusal}")
        return
    except Exception as error:  # whatever its checks raise is its verdict
        problems.append(f"coremltools refuses the program: {type(error).__name__}: {error}")
        return
    finally:
        milproto._load_operation = load_operation
    for name, report in reports.items():
        inferred = {}
        for operation in operations_of(program.functions[name]):
            for variable in operation.outputs:
                inferred[variable.name] = variable
        for output, declared in report.declared.items():
            if output not in inferred:
                problems.append(f"function {name}: coremltools lost `{output}`")
            elif isinstance(declared, Tensor) and inferred_type(inferred[output]) != declared:
                problems.append(f"function {name}: `{output}` is declared {declared}, coremltools infers {inferred_type(inferred[output])}")


# ---------------------------------------------------------------------------------------------------------------
# packages


def read_manifest(package: pathlib.Path) -> pathlib.Path:
    """The path of the model that Manifest.json names; refused unless the manifest is sound."""
    path = package / "Manifest.json"
    if not path.is_file():
        raise Refused("has no Manifest.json")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        entries, root, version = manifest["itemInfoEntries"], manifest["rootModelIdentifier"], manifest["fileFormatVersion"]
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"Manifest.json: {type(error).__name__}: {error}") from error
    if version != "1.0.0":
        raise Refused(f"Manifest.json: version {version!r}, not 1.0.0")
    for identifier, entry in entries.items():
        missing = {"path", "name", "author", "description"} - set(entry)
        if missing:
            raise Refused(f"Manifest.json: entry {identifier} lacks {sorted(missing)}")
        if not (package / "Data" / entry["path"]).exists():
            raise Refused(f"Manifest.json: Data/{entry['path']} does not exist")
    if root not in entries:
        raise Refused("Manifest.json: rootModelIdentifier names no entry")
    return package / "Data" / entries[root]["path"]


@dataclasses.dataclass
class Verdict:
    """What was found in one package."""

    problems: list[str]
    histograms: dict[str, dict[str, int]]


def witness(package: pathlib.Path) -> Verdict:
    """All checks of one .mlpackage."""
    problems: list[str] = []
    try:
        model_path = read_manifest(package)
        model = Model_pb2.Model()
        model.ParseFromString(model_path.read_bytes())
        if model.WhichOneof("Type") != "mlProgram":
            raise Refused(f"the model is a {model.WhichOneof('Type')}, not an mlProgram")
    except Refused as refusal:
        return Verdict([str(refusal)], {})
    except Exception as error:  # protobuf's own decoding error has no public base
        return Verdict([f"the model cannot be decoded: {type(error).__name__}: {error}"], {})

    blobs = Blobs(model_path.parent)
    reader = ProgramReader(Values(blobs), problems)
    program = model.mlProgram
    if program.version != 1:
        problems.append(f"program version {program.version}, not 1")
    reports = {
        name: reader.function(name, program.functions[name], model.specificationVersion) for name in sorted(program.functions)
    }
    problems += blobs.check_counts()
    sound = not problems  # a loader need not survive what was refused so far
    check_description(model, reports, problems)
    if sound:
        check_with_coremltools(model, model_path.parent / "weights", reports, problems)
    histograms = {name: dict(sorted(report.histogram.items())) for name, report in reports.items()}
    return Verdict(problems, histograms)


def find_packages(paths: list[pathlib.Path]) -> list[pathlib.Path]:
    """The packages among `paths` and below them, in order of their names."""
    packages = []
    for path in paths:
        if path.suffix == ".mlpackage":
            packages.append(path)
        elif path.is_dir():
            packages += sorted(path.rglob("*.mlpackage"))
        else:
            raise SystemExit(f"error: {path} is neither an .mlpackage nor a folder")
    return packages


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=pathlib.Path, metavar="PATH", help="an .mlpackage, or a folder that holds some")
    parser.add_argument("--json", action="store_true", help="print one JSON object with operation histograms")
    arguments = parser.parse_args()
    packages = find_packages(arguments.paths)
    if not packages:
        print("error: there is no .mlpackage at the given paths", file=sys.stderr)
        return 2
    refused = 0
    results = []
    # Packages know nothing of each other, and coremltools takes one processor for each.
    with multiprocessing.Pool() as pool:
        verdicts = list(zip(packages, pool.imap(witness, packages)))
    for package, verdict in verdicts:
        refused += bool(verdict.problems)
        results.append(
            {"path": str(package), "ok": not verdict.problems, "problems": verdict.problems, "functions": verdict.histograms}
        )
        if not arguments.json:
            for problem in verdict.problems:
                print(f"{package}: {problem}")
            if not verdict.problems:
                count = sum(sum(histogram.values()) for histogram in verdict.histograms.values())
                print(f"ok {package} functions={','.join(verdict.histograms)} ops={count}", flush=True)
    if arguments.json:
        json.dump({"packages": results}, sys.stdout, indent=2)
        print()
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
