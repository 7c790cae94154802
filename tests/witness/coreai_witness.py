"""What Apple's own runtime for Linux says of a Core AI asset that this project wrote.

    python coreai_witness.py ASSET GOLDEN [ASSET GOLDEN ...] [--tokens N]

ASSET is an `X.aimodel` of a tiny model, GOLDEN the folder with `ids.npy` and `logits.npy`, which transformers made in float32.
The asset is loaded, verified, saved again by Apple's package and read again; then its functions for one token run over N
tokens with their states, and the logits are compared. Which these are says `anemll-run.json` beside the asset, where all
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

LARGEST_ERROR = 0.005  # of the logits of a token, as relative L2: what 16-bit floats leave
# Models with a token beyond that, and beyond half.npy: of Qwen3.5 one of 32, whose recurrence transformers computes in 32
# bits even so; of OLMo 3 one of 80, in the dynamic form.
KNOWN_BEYOND = {"qwen3_5": 0.0125, "olmo3": 0.006}


def allowed(golden):
    """The largest error of a token: what is asked of all models, or, where transformers itself goes beyond that in 16-bit
    floats (half.npy, see ../reference/make_half.py), as far as that."""
    import numpy

    path = golden / "half.npy"
    known = max(LARGEST_ERROR, KNOWN_BEYOND.get(golden.parent.name, 0))
    return max(known, float(numpy.load(path).max())) if path.exists() else known



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


async def run(asset, golden, tokens):
    import numpy
    from coreai.authoring import AIModelAsset
    from coreai.runtime import NDArray

    loaded = AIModelAsset.load(asset)
    program = loaded.program
    with tempfile.TemporaryDirectory() as folder:
        program.save_asset(pathlib.Path(folder) / "again.aimodel")  # verifies first
        AIModelAsset.load(pathlib.Path(folder) / "again.aimodel").program
    ids = numpy.load(golden / "ids.npy").reshape(-1)[:tokens]
    expected = numpy.load(golden / "logits.npy")
    expected = expected.reshape(-1, expected.shape[-1])[: len(ids)]
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
    errors, clear, equal = compare(numpy.array(found), expected)
    largest = allowed(golden)
    good = bool(errors.mean() <= LARGEST_ERROR and errors.max() <= largest and 0 < clear == equal)
    print(f"{'ok' if good else 'WRONG'} {asset} tokens={len(ids)} largest relative L2 {errors.max():.4f} of {largest:.4f}, "
          f"mean {errors.mean():.4f}; best tokens equal {equal} of {clear} that are clear")
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
