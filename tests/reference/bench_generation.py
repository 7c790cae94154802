"""Compare the speed of conversions with llama.cpp's on files of the same model.

    python bench_generation.py --ours PROGRAM --peer FOLDER --pair OUT=FILE.gguf [--pair …]

PROGRAM is `anemll`; FOLDER holds `node_modules/node-llama-cpp` (`npm i -E node-llama-cpp@3.21.1`); each OUT is a
conversion, each FILE the same model as GGUF. Both run in turn, `--rounds` times, with 1 and 2 threads; the table has
the median of each, and the median of the quotients of neighbouring runs. Not for CI: it measures the machine.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess

PEER = pathlib.Path(__file__).resolve().parent / "bench_peer.mjs"
FIGURES = ["prompt_tokens_per_second", "tokens_per_second"]


def last_json(command: list[str], folder: pathlib.Path | None = None) -> dict:
    """The JSON object that a program prints in its last line."""
    made = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return json.loads(made.stdout.strip().splitlines()[-1])


def run_ours(program: str, conversion: str, threads: int, prompt: int, tokens: int) -> dict:
    """One round of `anemll bench`."""
    sizes = ["--prompt-tokens", str(prompt), "--tokens", str(tokens), "--rounds", "1"]
    return last_json([program, "bench", conversion, "--threads", str(threads), *sizes, "--json", "--quiet"])


def run_peer(folder: pathlib.Path, file: str, threads: int, prompt: int, tokens: int) -> dict:
    """One round of llama.cpp."""
    script = folder / PEER.name
    shutil.copyfile(PEER, script)
    return last_json(["node", script.name, str(pathlib.Path(file).resolve()), *map(str, (threads, prompt, tokens))], folder)


def main() -> None:
    """Run all pairs and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--peer", type=pathlib.Path, required=True)
    parser.add_argument("--pair", action="append", required=True)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print("| ours | peer | threads | prompt tokens/s | quotient | generated tokens/s | quotient |")
    print("|---|---|---|---|---|---|---|")
    for pair in given.pair:
        conversion, file = pair.split("=", 1)
        for threads in given.threads:
            sizes = (threads, given.prompt, given.tokens)
            runs = [
                (run_ours(given.ours, conversion, *sizes), run_peer(given.peer, file, *sizes))
                for _ in range(given.rounds)
            ]
            cells = []
            for figure in FIGURES:
                ours, peer = ([run[side][figure] for run in runs] for side in (0, 1))
                quotient = statistics.median(a / b for a, b in zip(ours, peer))
                cells += [f"{statistics.median(ours):.1f} : {statistics.median(peer):.1f}", f"{quotient:.2f}"]
            names = [pathlib.Path(conversion).name, pathlib.Path(file).name, str(threads)]
            print("| " + " | ".join(names + cells) + " |", flush=True)


if __name__ == "__main__":
    main()
