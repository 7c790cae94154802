"""What Apple's own runtime for Linux says of a Core AI asset that this project wrote.

    python coreai_witness.py ASSET GOLDEN [ASSET GOLDEN ...] [--tokens N]

ASSET is an `X.aimodel` of a tiny model, GOLDEN the folder with `ids.npy` and `logits.npy`, which transformers made in float32.
The asset is loaded, and what Apple's package reads in it is compared with what is meant (coreai_text.py). It is verified, saved
again by that package and read again, with the same result here and there. Then its functions for one token run over N
tokens with their states, and the logits are compared; what was saved again must give the same bits. Which these are says `anemll-run.json` beside the asset, where all
packages of a conversion became one: a state has one array for all functions. Else it is `infer`. Needs Python 3.11 with `coreai-core` 1.0.0b3, which ends
the process on bad input: so each asset has a child process, two of them at a time, and the script says so when one ends.
On a Mac with macOS 27, ANEMLL_COREAI_UNIT names where assets run: cpu, gpu or neural-engine.
One line for each asset on stdout; the exit code is 0 if all is well, 1 if not, 2 where coreai-core is not installed.
"""

import argparse
import asyncio
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import coreai_text

LARGEST_ERROR = 0.005  # of the logits of a token, as relative L2: what 16-bit floats leave
MEAN = 1.3  # largest mean error of an asset, as a part of the largest one of transformers in 16-bit floats
AGAIN = 4  # tokens that the asset runs which was saved again


def allowed(golden):
    """The largest error of a token, and of the mean of all: what is asked of all models. How far transformers itself is off in
    16-bit floats (half.npy, see ../reference/make_half.py) moves both: a token may be off as far as that where it is further,
    and the mean must be near that of transformers where it is nearer."""
    import numpy

    path = golden / "half.npy"
    if not path.exists():
        return LARGEST_ERROR, LARGEST_ERROR
    half = numpy.load(path).astype(float)
    return max(LARGEST_ERROR, half.max()), min(LARGEST_ERROR, MEAN * half.mean(axis=1).max())


def judge(errors, golden):
    """Whether errors are allowed, and both in words."""
    largest, mean = allowed(golden)
    good = bool(errors.max() <= largest and errors.mean() <= mean)
    return good, f"largest relative L2 {errors.max():.4f} of {largest:.4f}, mean {errors.mean():.4f} of {mean:.4f}"


def executable(asset):
    """Makes a loaded asset ready to run, on the unit that is named, if one is."""
    unit = os.environ.get("ANEMLL_COREAI_UNIT")
    if not unit:
        return asset.executable()
    from coreai.runtime import SpecializationOptions

    if unit == "cpu":
        return asset.executable(SpecializationOptions.cpu_only())
    from coreai.runtime import ComputeUnitKind

    kind = {"gpu": ComputeUnitKind.gpu, "neural-engine": ComputeUnitKind.neural_engine}[unit]
    return asset.executable(SpecializationOptions.from_preferred_compute_unit_kind(kind()))


def compare(found, expected):
    """Relative L2 of each row, how many of the best tokens are clear by more than the error, and how many of those equal."""
    import numpy

    errors = numpy.linalg.norm(found - expected, axis=1) / numpy.linalg.norm(expected, axis=1)
    clear, equal = 0, 0
    for ours, theirs in zip(found, expected):
        first, second = numpy.sort(theirs)[-1], numpy.sort(theirs)[-2]
        if first - second > 2 * numpy.abs(ours - theirs).max():
            clear += 1
            equal += int(ours.argmax() == theirs.argmax())
    return errors, clear, equal


def calls(asset):
    """The functions of a token, in order, and which input of later ones takes an output of another name."""
    path = asset.parent / "anemll-run.json"
    if not path.exists():
        return ["infer"], {}
    said = json.loads(path.read_text())
    if not asset.stem == said.get("joined", {}).get("name"):
        return [call["function"] for call in said["infer"]], said.get("feeds", {})
    names = {(one["package"], one["function"]): one["name"] for one in said["joined"]["functions"]}
    return [names[call["package"], call["function"]] for call in said["infer"]], said.get("feeds", {})


async def decode(loaded, asset, ids):
    """The logits of a text, token by token with states: (tokens, vocabulary)."""
    import numpy
    from coreai.runtime import NDArray

    found = []
    async with executable(loaded) as model:
        names, feeds = calls(asset)
        functions = [model.load_function(name) for name in names]
        states, context = {}, 0
        for description in (function.desc for function in functions):
            for name in description.state_names:
                shape = description.state_descriptor(name).shape
                states.setdefault(name, NDArray(numpy.zeros(shape, numpy.float16)))
            if "causal_mask" in description.input_names:
                context = description.input_descriptor("causal_mask").shape[-1]
        for place, token in enumerate(ids):
            mask = numpy.zeros((1, 1, 1, context), numpy.float16)
            mask[..., place + 1 :] = -numpy.inf
            inputs = {
                "input_ids": numpy.array([[token]], numpy.int32),
                "position_ids": numpy.array([place], numpy.int32),
                "current_pos": numpy.array([place], numpy.int32),
                "causal_mask": mask,
            }
            values = {name: NDArray(value) for name, value in inputs.items()}
            for function in functions:
                given = {name: values[name] for name in function.desc.input_names}
                kept = {name: states[name] for name in function.desc.state_names}
                outputs = await function(given, kept)
                values.update({feeds.get(name, name): value for name, value in outputs.items()})
            pieces = sorted((n for n in outputs if n.startswith("logits")), key=lambda n: int(n[6:]))
            found.append(numpy.concatenate([outputs[n].numpy().reshape(-1) for n in pieces]).astype(numpy.float32))
    return numpy.array(found)


async def run(asset, golden, tokens):
    import numpy
    from coreai.authoring import AIModelAsset

    loaded = AIModelAsset.load(asset)
    operations = coreai_text.check(asset, loaded.program)
    ids = numpy.load(golden / "ids.npy").reshape(-1)[:tokens]
    expected = numpy.load(golden / "logits.npy")
    expected = expected.reshape(-1, expected.shape[-1])[: len(ids)]
    found = await decode(loaded, asset, ids)
    with tempfile.TemporaryDirectory() as folder:
        again = pathlib.Path(folder) / "again.aimodel"
        loaded.program.save_asset(again)  # verifies first
        saved = AIModelAsset.load(again)
        coreai_text.check(again, saved.program, ours=False)
        same = numpy.array_equal(await decode(saved, asset, ids[:AGAIN]), found[:AGAIN])
    errors, clear, equal = compare(found, expected)
    good, words = judge(errors, golden)
    good = good and same and 0 < clear == equal
    print(f"{'ok' if good else 'WRONG'} {asset} {coreai_text.tell(operations)}, tokens={len(ids)} {words}; best tokens equal "
          f"{equal} of {clear} that are clear{'' if same else '; saved again it gives other bits'}")
    return 0 if good else 1


def child(script, pair, tokens):
    command = [sys.executable, script, *map(str, pair), "--tokens", str(tokens), "--child"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode in (0, 1) and result.stdout:
        return result.returncode, result.stdout
    return 1, f"WRONG {pair[0]}: coreai-core ended ({result.returncode})\n{result.stderr[-3000:]}\n"


def main(script, run, what, tokens):
    """Runs `run` in child processes of `script`, of which each has one of the pairs on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pairs", type=pathlib.Path, nargs="+", metavar=f"{what} GOLDEN")
    parser.add_argument("--tokens", type=int, default=tokens)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if len(arguments.pairs) % 2:
        parser.error("each has a folder of golden logits")
    pairs = list(zip(arguments.pairs[::2], arguments.pairs[1::2]))
    if arguments.child:
        return asyncio.run(run(*pairs[0], arguments.tokens))
    try:
        import coreai  # noqa: F401
    except ImportError:
        print("left out: coreai-core is not installed")
        return 2
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda pair: child(script, pair, arguments.tokens), pairs))
    for _, text in results:
        print(text, end="")
    return max(code for code, _ in results)


if __name__ == "__main__":
    sys.exit(main(__file__, run, "ASSET", 32))
