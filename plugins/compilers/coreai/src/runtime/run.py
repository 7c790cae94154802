"""Runs the functions of a Core AI asset for a program that asks on standard input: a line of JSON, then the bytes of
the inputs one after another. It is answered on standard output in the same way. The states are kept here. Behind the asset
the unit may be named that is to run it, on a Mac."""

import asyncio
import json
import os
import sys

ANSWERS = os.fdopen(os.dup(1), "wb")
# What the package prints must not stand between answers.
os.dup2(2, 1)


def answer(head, *parts):
    ANSWERS.write(json.dumps(head).encode() + b"\n")
    for part in parts:
        ANSWERS.write(part)
    ANSWERS.flush()


def specialized(unit):
    """Options for a unit, which only the Core AI of macOS knows."""
    from coreai.runtime import SpecializationOptions

    if not SpecializationOptions.is_supported():
        sys.exit(f"the unit {unit} can be named on macOS 27 alone")
    if unit == "cpu":
        return SpecializationOptions.cpu_only()
    from coreai.runtime import ComputeUnitKind

    kind = {"gpu": ComputeUnitKind.gpu, "neural-engine": ComputeUnitKind.neural_engine}[unit]
    return SpecializationOptions.from_preferred_compute_unit_kind(kind())


async def serve(path, unit=None):
    import numpy
    from coreai.authoring import AIModelAsset
    from coreai.runtime import NDArray

    functions, states = {}, {}
    async with AIModelAsset.load(path).executable(unit and specialized(unit)) as model:
        answer({"ready": True})
        while line := sys.stdin.buffer.readline():
            asked = json.loads(line)
            if asked.get("reset"):
                states.clear()
                answer({"outputs": []})
                continue
            inputs = {}
            for one in asked["inputs"]:
                data = sys.stdin.buffer.read(one["bytes"])
                inputs[one["name"]] = NDArray(numpy.frombuffer(data, one["dtype"]).reshape(one["shape"]).copy())
            name = asked["function"]
            if name not in functions:
                functions[name] = model.load_function(name)
            function = functions[name]
            own = {}
            for state in function.desc.state_names:
                if state not in states:
                    shape = function.desc.state_descriptor(state).shape
                    states[state] = NDArray(numpy.zeros(shape, numpy.float16))
                own[state] = states[state]
            outputs = await function(inputs, own)
            arrays = {key: numpy.ascontiguousarray(value.numpy()) for key, value in outputs.items()}
            parts = [array.tobytes() for array in arrays.values()]
            heads = [
                {"name": key, "dtype": str(array.dtype), "shape": array.shape, "bytes": len(part)}
                for (key, array), part in zip(arrays.items(), parts)
            ]
            answer({"outputs": heads}, *parts)


asyncio.run(serve(*sys.argv[1:]))
