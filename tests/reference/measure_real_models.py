"""Measure conversions of real models, in 16-bit floats, against transformers in float32, and print the rows of a table.

    python measure_real_models.py --program ANEMLL --text FILE NAME=MODEL ...

MODEL is a Hugging Face directory or a GGUF file, which transformers then reads by itself (with `pip install accelerate`):
its own reading of the blocks, the tokenizer and the metadata is the witness. The first --positions tokens of the text,
from the fraction --from of its length on, go through the conversion that `convert --lut none` makes on each of the three
paths: batches with logits, one by one, and two batches first, then one by one. A row has the worst of them.

    | model | model_type | weights | layout | transformers | smallest cosine | KL, nats | agreement |

With --page FILE the rows replace those of the same models below the heading `## Real models`.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import reference_logits

HEADING = "## Real models"
TOP = 256  # logits of a position that are kept
BATCH = 64
PATHS = (["--path", "evaluate"], ["--path", "infer"], ["--path", "prefill", "--prefill-tokens", str(2 * BATCH)])


def place_of(model: pathlib.Path) -> tuple[pathlib.Path, dict]:
    """What `from_pretrained` is given for a directory or a GGUF file."""
    return (model.parent, {"gguf_file": model.name}) if model.suffix == ".gguf" else (model, {})


def reference(model: pathlib.Path, text: str, positions: int) -> tuple[numpy.ndarray, dict, torch.nn.Module]:
    """Token ids, int32 [positions], their largest logits, and the model that gave them."""
    place, more = place_of(model)
    ids = AutoTokenizer.from_pretrained(place, local_files_only=True, **more)(text)["input_ids"][:positions]
    if len(ids) < positions:
        raise SystemExit(f"error: the text gives only {len(ids)} tokens of {model}, {positions} were asked for")
    config = AutoConfig.from_pretrained(place, local_files_only=True, **more)
    loaded = AutoModelForCausalLM.from_pretrained(
        place, config=config, torch_dtype=torch.float32, attn_implementation="eager", local_files_only=True, **more
    ).eval()
    ids = numpy.array(ids, dtype=numpy.int32)
    return ids, reference_logits.largest_logits(reference_logits.compute_logits(loaded, ids), TOP), loaded


def run(command: list[str]) -> str:
    """What a command prints."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"error: {' '.join(command)}:\n{done.stderr[-3000:]}")
    return done.stdout


def measure(program: pathlib.Path, name: str, model: pathlib.Path, text: str, positions: int) -> str:
    """A model's row."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        ids, logits, loaded = reference(model, text, positions)
        kind = loaded.config.model_type
        parameters = sum(value.numel() for value in {value.data_ptr(): value for value in loaded.parameters()}.values())
        del loaded
        numpy.save(folder / "ids.npy", ids)
        numpy.savez(folder / "logits.npz", **logits)
        output = folder / "out"
        sizes = ["--context", str(positions), "--batch", str(BATCH)]
        options = ["--lut", "none", "--no-tokenizer", "--compiler", "none", "--runtime", "none", "--skip-quality"]
        run([str(program), "convert", str(model), "-o", str(output), *options, *sizes])
        files = ["--tokens", str(folder / "ids.npy"), "--reference", str(folder / "logits.npz")]
        results = [json.loads(run([str(program), "eval", str(output), "--json", *files, *path])) for path in PATHS]
        packages = sum(1 for path in output.iterdir() if path.suffix == ".mlpackage" and "_FFN_PF_" in path.name)
    for path, result in zip(PATHS, results, strict=True):
        figures = {key: value for key, value in result.items() if isinstance(value, (int, float))}
        print(f"{name}: {' '.join(path)}: {figures}", flush=True)
    divergence = f"{max(result['kl_mean'] for result in results):.1e}".replace("e-0", "e-")
    layout = f"{packages} chunk{'s' if packages > 1 else ''}" if packages else "one package"
    return (
        f"| {name} | `{kind}` | {parameters / 1e6:.0f} M, {'GGUF' if model.suffix == '.gguf' else 'safetensors'} | {layout} "
        f"| {transformers.__version__} | {min(result['cosine_min'] for result in results):.6f} "
        f"| {divergence} "
        f"| {100 * min(result['top1_agreement'] for result in results):.1f} % |"
    )


def put(page: pathlib.Path, rows: list[str]) -> None:
    """Put rows into the table below the heading, in the order of names."""
    lines = page.read_text(encoding="utf-8").splitlines()
    first = next(number for number in range(lines.index(HEADING), len(lines)) if lines[number].startswith("|---")) + 1
    end = next((number for number in range(first, len(lines)) if not lines[number].startswith("|")), len(lines))
    name = lambda row: row.split("|")[1].strip()  # noqa: E731
    kept = [row for row in lines[first:end] if name(row) not in map(name, rows)]
    lines[first:end] = sorted(kept + rows, key=name)
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL")
    parser.add_argument("--program", type=pathlib.Path, required=True, help="anemll, with its plugins beside it")
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--from", dest="start", type=float, default=0.75, help="start in the text: fraction of its length")
    parser.add_argument("--positions", type=int, default=512)
    parser.add_argument("--page", type=pathlib.Path, help="write the rows into this file, too")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    reference_logits.use_threads(arguments.threads)
    text = arguments.text.read_bytes().decode("utf-8", errors="replace").replace("\r\n", "\n")
    text = text[text.index("\n", int(len(text) * arguments.start)) + 1 :]
    rows = []
    for given in arguments.models:
        name, _, model = given.partition("=")
        rows.append(measure(arguments.program, name, pathlib.Path(model), text, arguments.positions))
        print(rows[-1], flush=True)
    if arguments.page:
        put(arguments.page, rows)


if __name__ == "__main__":
    main()
