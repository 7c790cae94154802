"""Every form of stored weights, as Apple's own runtime for Linux reads it in Core AI assets.

    python coreai_forms.py make FOLDER       packages of one product each, by coremltools, and what numpy says they give
    python coreai_forms.py run FOLDER        their assets in Apple's runtime, compared with that

`make` needs coremltools, `run` Python 3.11 with `coreai-core` 1.0.0b3; between the two, `anemll compile --compiler coreai`
writes `NAME.aimodel` beside each `NAME.mlpackage`. The weight is multiplied twice: as a linear layer, which Core AI computes
as a convolution, and as the operand of a matrix product. coreai-core ends the process on bad input, so each asset is run in
a child process, two of them at a time; what Apple's package reads there must be what is meant (coreai_text.py). One line for each that is wrong; the exit code is 0 if all are right.
"""

import asyncio
import concurrent.futures
import pathlib
import subprocess
import sys

import numpy

import coreai_text
from coreai_witness import executable

ROWS, COLUMNS, TOKENS = 64, 32, 3
LARGEST_ERROR = 0.005  # relative L2: products of 16-bit floats


def forms(random):
    """Name; then how the weight is stored, and its values."""
    half = numpy.float16
    for bits in (1, 2, 3, 4, 6, 8):
        kind = f"uint{bits}"
        entries = 1 << bits
        for name, groups, width in [("tensor", (1, 1), 1), ("rows", (8, 1), 1), ("row", (ROWS, 1), 1), ("columns", (1, 4), 1),
                                    ("vectors", (1, 1), 2), ("group-vectors", (8, 1), 4)]:
            shape = (ROWS // width, COLUMNS)
            if shape[0] % groups[0]:
                continue
            indices = random.integers(0, entries, shape)
            table = random.standard_normal((*groups, entries, width)).astype(half)
            spread = numpy.repeat(numpy.repeat(table, shape[0] // groups[0], 0), shape[1] // groups[1], 1)
            values = numpy.take_along_axis(spread, indices[..., None, None], 2)[:, :, 0, :]
            values = values.transpose(0, 2, 1).reshape(ROWS, COLUMNS)
            yield f"lut{bits}-{name}", ("lut", indices, kind, table, 0 if width > 1 else None), values
    for kind, low, high in [("int4", -8, 8), ("uint4", 0, 16), ("int8", -128, 128), ("uint8", 0, 256)]:
        for name, blocks, offset in [("tensor", (1, 1), False), ("rows", (ROWS, 1), False), ("blocks", (ROWS, 4), False),
                                     ("offset", (ROWS, 4), True), ("tensor-offset", (1, 1), True)]:
            data = random.integers(low, high, (ROWS, COLUMNS))
            scale = (random.random(blocks) / high).astype(half)
            zero = random.integers(low, high, blocks) if offset else None
            spread = [1 if a is None else numpy.kron(a, numpy.ones((ROWS // blocks[0], COLUMNS // blocks[1]), a.dtype))
                      for a in (scale, zero)]
            values = ((data - (spread[1] if offset else 0)) * spread[0].astype(numpy.float32)).astype(half)
            yield f"{kind}-{name}", ("block", data, kind, scale, zero), values
    values = random.standard_normal((ROWS, COLUMNS)).astype(half)
    yield "float16", ("plain", values), values


def make(folder):
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    def packed(array, kind):
        builtin = {"int8": numpy.int8, "uint8": numpy.uint8}.get(kind)
        return array.astype(builtin or types.nptype_from_builtin(types.string_to_builtin(kind)))

    def weight(stored):
        if stored[0] == "plain":
            return stored[1]
        if stored[0] == "lut":
            _, indices, kind, table, axis = stored
            return mb.constexpr_lut_to_dense(indices=packed(indices, kind), lut=table, vector_axis=axis)
        _, data, kind, scale, zero = stored
        offset = {} if zero is None else {"offset": packed(zero, kind)}
        return mb.constexpr_blockwise_shift_scale(data=packed(data, kind), scale=scale, **offset)

    folder.mkdir(parents=True, exist_ok=True)
    random = numpy.random.default_rng(7)
    for name, stored, values in forms(random):
        x = random.standard_normal((1, TOKENS, COLUMNS)).astype(numpy.float16)
        kinds = [mb.TensorSpec((1, TOKENS, COLUMNS), dtype=types.fp16)]

        @mb.program(input_specs=kinds, opset_version=ct.target.iOS18)
        def program(x):
            linear = mb.linear(x=x, weight=weight(stored), name="linear")
            return linear, mb.matmul(x=x, y=weight(stored), transpose_y=True, name="product")

        model = ct.convert(program, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS18,
                           compute_precision=ct.precision.FLOAT16, skip_model_load=True,
                           pass_pipeline=ct.PassPipeline.EMPTY, outputs=None)
        model.save(str(folder / f"{name}.mlpackage"))
        numpy.savez(folder / f"{name}.npz", x=x, y=x.astype(numpy.float32) @ values.astype(numpy.float32).T)
    return 0


async def run_one(path):
    from coreai.authoring import AIModelAsset
    from coreai.runtime import NDArray

    golden = numpy.load(path.with_suffix(".npz"))
    loaded = AIModelAsset.load(path)
    coreai_text.check(path, loaded.program)
    async with executable(loaded) as model:
        function = model.load_function("main")
        outputs = await function({function.desc.input_names[0]: NDArray(golden["x"])})
        worst = 0.0
        for output in outputs.values():
            found = output.numpy().astype(numpy.float32)
            worst = max(worst, numpy.linalg.norm(found - golden["y"]) / numpy.linalg.norm(golden["y"]))
    good = len(outputs) == 2 and worst <= LARGEST_ERROR
    print(f"{'ok' if good else 'WRONG'} {path.stem}: relative L2 {worst:.4f}")
    return 0 if good else 1


def run(folder):
    def witness(package):
        path = package.with_suffix(".aimodel")
        if not path.exists():
            return 1, f"WRONG {package.stem}: there is no asset\n"
        child = subprocess.run([sys.executable, __file__, "one", str(path)], capture_output=True, text=True)
        ended = f"WRONG {path.stem}: coreai-core ended ({child.returncode}) {child.stderr[-300:]}\n"
        return child.returncode, child.stdout or ended

    packages = sorted(folder.glob("*.mlpackage"))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(witness, packages))
    for code, text in results:
        if code:
            print(text, end="")
    right = sum(code == 0 for code, _ in results)
    print(f"{right} of {len(packages)} forms of weights are right")
    return 0 if packages and right == len(packages) else 1


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("make", "run", "one"):
        sys.exit(__doc__)
    target = pathlib.Path(sys.argv[2])
    sys.exit(asyncio.run(run_one(target)) if sys.argv[1] == "one" else {"make": make, "run": run}[sys.argv[1]](target))
