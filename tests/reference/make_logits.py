"""Compute the reference logits of any Hugging Face model directory: transformers, float32, CPU, eager attention.

    python make_logits.py --model DIR --ids IDS.npy --output FILE.npy
    python make_logits.py --model DIR --text FILE --positions N [--from FRACTION] --write-ids IDS.npy --output FILE.npz --top K

FILE.npy holds all logits, float32 (or --float16) [positions, vocabulary]. FILE.npz holds the K largest of each
position: `indices` int32 [positions, K], `logits` float32 [positions, K] (largest first), `logsumexp` float32
[positions], `vocab_size` int32 scalar. With --question the model answers a chat message, which shows that the
directory is whole.
"""

import argparse
import pathlib

import numpy
import torch
from transformers import AutoTokenizer

import reference_logits


def ids_of_text(model: pathlib.Path, path: pathlib.Path, start: float, positions: int) -> numpy.ndarray:
    """Token ids, int32 [positions], of the text in `path` from the first line after fraction `start` on."""
    text = path.read_bytes().decode("utf-8", errors="replace").replace("\r\n", "\n")
    if start > 0:
        text = text[text.index("\n", int(len(text) * start)) + 1 :]
    ids = AutoTokenizer.from_pretrained(model, local_files_only=True)(text)["input_ids"][:positions]
    if len(ids) < positions:
        raise SystemExit(f"error: {path} gives only {len(ids)} tokens, {positions} were asked for: give a longer text")
    return numpy.array(ids, dtype=numpy.int32)


def answer(directory: pathlib.Path, model: torch.nn.Module, question: str, count: int) -> str:
    """The model's greedy answer, at most `count` tokens, to one chat message."""
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    ids = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True)
    tokens = reference_logits.greedy_continuation(model, numpy.array(ids), count).tolist()
    if tokenizer.eos_token_id in tokens:
        tokens = tokens[: tokens.index(tokenizer.eos_token_id)]
    return tokenizer.decode(tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True, help="Hugging Face directory")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--ids", type=pathlib.Path, help="token ids, .npy, integer [positions]")
    source.add_argument("--text", type=pathlib.Path, help="a text to tokenize with the model's tokenizer")
    parser.add_argument("--from", dest="start", type=float, default=0.0, help="start in the text: fraction of its length")
    parser.add_argument("--positions", type=int, help="how many tokens (all, with --ids)")
    parser.add_argument("--write-ids", type=pathlib.Path, help="write the token ids here, int32")
    parser.add_argument("--output", type=pathlib.Path, help="FILE.npy or FILE.npz")
    parser.add_argument("--top", type=int, default=256, help="how many logits FILE.npz holds per position")
    parser.add_argument("--float16", action="store_true", help="store FILE.npy as float16")
    parser.add_argument("--question", help="print the model's greedy answer to this chat message")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    given = arguments.ids or arguments.text
    if bool(given) != bool(arguments.output) or not (given or arguments.question):
        parser.error("give --ids or --text together with --output, or --question, or both")
    if arguments.output and arguments.output.suffix not in (".npy", ".npz"):
        parser.error(f"--output {arguments.output}: the name must end in .npy or .npz")
    if arguments.text and not arguments.positions:
        parser.error("--text needs --positions")

    reference_logits.use_threads(arguments.threads)
    model = reference_logits.load_model(arguments.model)
    if given:
        if arguments.ids:
            ids = numpy.load(arguments.ids).astype(numpy.int32)[: arguments.positions]
        else:
            ids = ids_of_text(arguments.model, arguments.text, arguments.start, arguments.positions)
        if ids.ndim != 1 or ids.min() < 0 or ids.max() >= model.config.vocab_size:
            raise SystemExit(f"error: {given}: token ids must be one row of numbers below {model.config.vocab_size}")
        logits = reference_logits.compute_logits(model, ids)
        if arguments.write_ids:
            arguments.write_ids.parent.mkdir(parents=True, exist_ok=True)
            numpy.save(arguments.write_ids, ids)
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        if arguments.output.suffix == ".npz":
            numpy.savez(arguments.output, **reference_logits.largest_logits(logits, arguments.top))
        else:
            numpy.save(arguments.output, logits.astype(numpy.float16) if arguments.float16 else logits)
        loss = reference_logits.cross_entropy(logits, ids)
        print(f"{arguments.output}: {logits.shape[0]} positions, vocabulary {logits.shape[1]}, {loss:.3f} nats per token")
    if arguments.question:
        print(f"question: {arguments.question}\nanswer: {answer(arguments.model, model, arguments.question, 64)!r}")


if __name__ == "__main__":
    main()
