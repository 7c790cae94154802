"""Whether Apple's package reads in a Core AI asset what this project means by it, operation by operation.

`anemll inspect ASSET --mil` says what is meant: the functions, and of each its inputs, states, outputs and operations in order, with
operands, types, attributes and constants. `check` walks the program that Apple's package made of the same file, by that package's
own interface, and ends at the first thing that is not so. Operations whose results nothing uses are not in it: that package leaves
them out. ANEMLL_PROGRAM names the program that says what is meant; where it is not
set, nothing is compared. Blobs that this project writes are named by what they hold, so their data are compared, too.
"""

import hashlib
import json
import os
import re
import subprocess

TEXT = r'"(?:[^"\\]|\\.)*"'
PORT = re.compile(rf"  (input|output)(?: %\d+)? ({TEXT})(?: of state ({TEXT}))? : (.*)")
OPERATION = re.compile(r"  (?:((?:%\d+(?:, )?)+) = )?(\S+)((?: %\d+,?)*)(.*)")
BLOB = re.compile(r'blob "(.*)" of (\d+) bytes')
LAID_OUT = re.compile(r"(state<)?tensor<(.*?)>+ in (\w+), alignments \[(.*)\], interleave \[(.*)\]")
DATA = re.compile(r'^ +"?([^\s":]+)"?: "0x([0-9A-F]*)"', re.MULTILINE)
SMALL = re.compile(r"dense<([^\"]*)> : tensor<.*[su]i([2-7])>")  # integers of fewer than 8 bits, as Apple's package prints them
LARGEST = 1 << 26  # bytes of an asset whose blobs are compared: Apple's text of a program has them in hexadecimal
CONSTANT, NAME, STATE = "primitive.constant_v1", "coreai.name", "MutableBuffers.buffer_mutation"
FAMILIES = {"primitive": "coreai.", "dataflow": "coreai.", "ax": "coreaix."}
CHOICES = {  # as the dialect numbers them
    "approximate": ["none", "tanh"],
    "padding_mode": ["circular", "constant", "reflect", "replicate", "symmetric"],
}


def same(place, found, meant):
    """Ends where Apple's package reads something else than what is meant."""
    if found != meant:
        raise AssertionError(f"{place}: Apple's package reads {found}, meant is {meant}")


def kind(text):
    """A type as Apple's package prints it."""
    if found := LAID_OUT.fullmatch(text):
        state, tensor, memory, *sizes = found.groups()
        alignments, interleave = (f"[{'x'.join(one.split(', '))}]" for one in sizes)
        text = f"tensor<{tensor}, #coreaix.hw_constraints<{memory}, alignments: {alignments}, interleave: {interleave}>>"
        return f"!coreai.handle<{text}>" if state else text
    if text == "token":
        return "!coreai.token"
    text = text.replace("xbool>", "xi1>").replace("<bool>", "<i1>")
    return f"!coreai.handle<{text[6:-1]}>" if text.startswith("state<") else text


def kinds(text):
    return [kind(one) for one in re.split(r", (?=tensor<|state<|token)", text)] if text else []


def operation_name(name):
    """The name that Apple's package has for an operation, by that in the file."""
    family, _, stem = name.rsplit("_v", 1)[0].rpartition(".")
    if family:
        return FAMILIES[family] + stem
    return "coreai." + ("decomposable." if stem.startswith("broadcasting_") else "") + stem


def packed(numbers, bits):
    """Bytes of integers of so many bits, the lowest first."""
    whole = sum((number & (1 << bits) - 1) << place * bits for place, number in enumerate(numbers))
    return whole.to_bytes((len(numbers) * bits + 7) // 8, "little")


def data_of_blobs(module):
    """The data of all blobs by key, out of Apple's own text of a program."""
    text = str(module)
    # In front of the data there are four bytes: the alignment.
    return {key: bytes.fromhex(digits[8:]) for key, digits in DATA.findall(text, text.rfind("{-#"))}


class Operation:
    """An operation as a line says it."""

    def __init__(self, line):
        self.text = line.strip()
        results, self.called, operands, rest = OPERATION.fullmatch(line).groups()
        self.results = results.split(", ") if results else []
        self.operands = operands.replace(",", " ").split()
        value, _, types = rest.removesuffix(" {…}").rpartition(" : ")
        self.value, self.types = value.strip(), kinds(types)


def used(operations):
    """Those that states and outputs depend on."""
    kept, wanted = [], set()
    for operation in reversed(operations):
        if operation.called.startswith("dataflow.") or wanted.intersection(operation.results):
            kept.append(operation)
            wanted.update(operation.operands)
    return kept[::-1]


class Asset:
    """What is meant by an asset, beside the program that Apple's package made of it."""

    def __init__(self, text, program, blobs, hashed):
        self.functions = [part.splitlines() for part in text.split("\n\n")[1:]]
        self.graphs = [one.operation for one in program._module._mlir_module.body.operations]
        self.blobs, self.hashed = blobs, hashed

    def compare(self):
        """The number of operations, all of which are as they are meant."""
        same("number of functions", len(self.graphs), len(self.functions))
        return sum(self.function(graph, lines) for graph, lines in zip(self.graphs, self.functions))

    def function(self, graph, lines):
        words, name = lines[0].split("function ", 1)
        name, attributes = json.loads(name), graph.attributes
        same("name of a function", attributes["sym_name"].value, name)
        same(f"{name}: words before it", "", words)  # neither private nor kept apart: callers see all
        block = graph.regions[0].blocks[0]
        ports = [found.groups() for line in lines[1:] if (found := PORT.fullmatch(line))]
        types = {}
        for direction, key in (("input", "arg_attrs"), ("output", "res_attrs")):
            mine = [(json.loads(port), state and json.loads(state)) for way, port, state, _ in ports if way == direction]
            theirs = list(attributes[key]) if key in attributes else []
            same(f"{name}: {direction}s", [one[NAME].value for one in theirs], [port for port, _ in mine])
            states = [one[STATE].value for one in theirs if STATE in one]
            types[direction] = [kind(port[3]) for port in ports if port[0] == direction]
            handles = zip(mine, types[direction])
            same(f"{name}: states", states, [state or port for (port, state), one in handles if one.startswith("!coreai.handle")])
        same(f"{name}: types of inputs", [str(one.type) for one in block.arguments], types["input"])
        numbers = {argument: f"%{place}" for place, argument in enumerate(block.arguments)}
        operations = [one.operation for one in block.operations]
        written = used([Operation(line) for line in lines[1 + len(ports) :]])
        for operation, meant in zip(operations, written):
            self.operation(f"{name}: {meant.text}", operation, meant, numbers)
        same(f"{name}: number of operations", len(operations), len(written))
        same(f"{name}: types of outputs", [str(one.type) for one in operations[-1].operands], types["output"])
        return len(operations)

    def operation(self, place, operation, meant, numbers):
        same(place, operation.name, operation_name(meant.called))
        same(place, [str(one.type) for one in operation.results], meant.types)
        same(place, [numbers[one] for one in operation.operands], meant.operands)
        numbers.update(zip(operation.results, meant.results))
        attributes = {one.name: one.attr for one in operation.attributes}
        if meant.called == CONSTANT:
            self.constant(place, attributes.pop("value"), meant.value)
        else:
            for choice in meant.value.split():
                what, number = choice.split("=")
                found = re.findall(r"\w+", str(attributes.pop(what)))[-1]
                same(f"{place}: {what}", found, CHOICES[what][int(number)])
        same(f"{place}: other attributes", list(attributes), [])

    def constant(self, place, value, text):
        import numpy
        from coreai._compiler.ir import DenseElementsAttr

        if found := BLOB.fullmatch(text):
            key, length = found.group(1), int(found.group(2))
            same(place, str(value).split(" : ")[0], f"dense_resource<{key}>")
            if self.blobs is not None:
                same(f"{place}: bytes", len(self.blobs[key]), length)
                if self.hashed:
                    same(f"{place}: its data", "resource_" + hashlib.sha256(self.blobs[key]).hexdigest()[:16], key)
            return
        elements, _, digest = text.partition(" sha256 ")
        if found := SMALL.fullmatch(str(value)):
            # The package ends the process where it is asked for these as an array. One number stands for all.
            numbers = [int(one) for one in re.findall(r"-?[0-9]+", found.group(1))]
            same(f"{place}: its data", hashlib.sha256(packed(numbers, int(found.group(2)))).hexdigest()[:16], digest)
            return
        array = numpy.ascontiguousarray(numpy.asarray(DenseElementsAttr(value))).reshape(-1)
        if digest:
            same(f"{place}: its data", hashlib.sha256(array.tobytes()).hexdigest()[:16], digest)
            return
        mine = [elements[4:]] * array.size if elements.startswith("all ") else elements.strip("[]").split(", ")
        numbers = [{"true": 1, "false": 0}.get(one, one) for one in mine if one]
        meant = numpy.array([float(one) if array.dtype.kind == "f" else int(one) for one in numbers], array.dtype)
        if not numpy.array_equal(array, meant, equal_nan=array.dtype.kind == "f"):
            same(place, array.tolist(), meant.tolist())


def check(asset, program, ours=True):
    """Compares a program that Apple's package made of an asset, which this project wrote or not, with what is meant by it. Gives
    how many operations were compared; none where ANEMLL_PROGRAM is not set."""
    anemll = os.environ.get("ANEMLL_PROGRAM")
    if not anemll:
        return None
    text = subprocess.run([anemll, "inspect", asset, "--mil"], capture_output=True, text=True, check=True).stdout
    small = (asset / "main.mlirb").stat().st_size <= LARGEST
    blobs = data_of_blobs(program._module._mlir_module) if small else None
    return Asset(text, program, blobs, ours).compare()


def tell(operations):
    """The result of `check` in words."""
    return "operations not compared" if operations is None else f"{operations} operations as meant"
