"""Write the tokenizer goldens: the ids that transformers' AutoTokenizer gives for directories of many kinds.

    python make_tokenizer_goldens.py            # write tokenizers/ids-<major version>.json
    python make_tokenizer_goldens.py --check    # compare with the file that exists

Each case is a directory: a tokenizer.json (a base with keys replaced), tokenizer_config.json, config.json and the like.
The golden holds the directory, and for every text the ids with and without what the tokenizer adds around a text, and
the special tokens; or `refused`, the error. Run it with transformers 4 (4.57.1 here; needs sentencepiece) and 5: the
program follows 4, and ids-5.json shows where 5 differs.

`tokenizers/spm.json` is the byte-fallback base: a sentencepiece model trained on a few lines, converted once by
transformers 4. Cases with `sentencepiece: true` have the model beside tokenizer.json; only that it is there matters.
"""

import argparse
import io
import json
import logging
import pathlib
import sys
import tempfile

import transformers
from transformers import AutoTokenizer


FOLDER = pathlib.Path(__file__).parent / "tokenizers"
MODELS = pathlib.Path(__file__).parent.parent / "models"

TEXTS = [
    "",
    "Hello",
    " Hello  world",
    "The king said to the queen: don't!\n\nAnd\tso on. ",
    "Naïve café, 日本語 🙂🙃",
    "<s>Hello</s> world<unk>.",
    "<|begin_of_text|>Hello<|end_of_text|> <|new|> [PAD]x",
    "a <|endoftext|> b",
    "   ",
    "\n",
    "Hello <s>.",
    "x <|left|> y <|left|>z",
]
LINES = [
    "Hello world, the king said to the queen that he was here.",
    "One day the old man went into the wood to look for the well.",
    "Don't tell the children, or they will all run there at once!",
    "What is the capital of France? The capital of France is Paris.",
    "She sells sea shells by the sea shore, and so did he, in 1984 and in 2001.",
]


def added(content, special=True, **flags):
    token = {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {**token, **flags, "special": special}


def template(*tokens):
    """A post-processor that puts tokens before a text."""
    before = [{"SpecialToken": {"id": token, "type_id": 0}} for token, _ in tokens]
    return {
        "type": "TemplateProcessing",
        "single": [*before, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]} for token, number in tokens},
    }


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
NO_REGEX = {**BYTE_LEVEL, "use_regex": False}
SPLIT = {"type": "Split", "pattern": {"Regex": "\\p{N}{1,3}| ?\\p{L}+|\\s+|."}, "behavior": "Isolated", "invert": False}
BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"
BARE = {"post_processor": {**BYTE_LEVEL, "trim_offsets": False}}
BOS_TEMPLATE = {"post_processor": template((BOS, 0))}
NAMED = {"bos_token": BOS, "eos_token": EOS}
DECODER = {"added_tokens_decoder": {"0": added(BOS), "1": added(EOS)}}
LLAMA_DECODER = {"added_tokens_decoder": {"0": added("<unk>"), "1": added("<s>"), "2": added("</s>")}}
LLAMA = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
MAP = {"bos_token": {k: v for k, v in added(BOS).items() if k != "special"}, "eos_token": EOS}


def cases():
    """Name, base, keys of tokenizer.json, other files."""
    settings = []
    for bos in (None, True, False):
        for eos in (None, True, False):
            flags = {"add_bos_token": bos, "add_eos_token": eos}
            name = f"bos {bos}, eos {eos}"
            settings.append((name, {key: value for key, value in flags.items() if value is not None}))
    for kind in ("LlamaTokenizer", "LlamaTokenizerFast", "PreTrainedTokenizerFast", "Qwen2Tokenizer", "GPT2TokenizerFast"):
        for name, flags in settings:
            config = {**NAMED, **DECODER, **flags, "tokenizer_class": kind}
            yield f"{kind}, {name}, bytes", "tiny-llama", BARE, {"tokenizer_config.json": config}
    for kind in ("LlamaTokenizerFast", "CodeLlamaTokenizer", "GemmaTokenizerFast", "PreTrainedTokenizerFast", "GPTNeoXTokenizerFast"):
        for name, flags in settings[::2]:
            config = {**LLAMA, **LLAMA_DECODER, **flags, "tokenizer_class": kind}
            yield f"{kind}, {name}, spm", "spm", {}, {"tokenizer_config.json": config}
    plain = {**NAMED, **DECODER}
    for kind in ("llama", "mistral", "qwen2", "qwen3", "gpt2"):
        files = {"tokenizer_config.json": plain}
        yield f"no class, {kind}", "tiny-llama", BARE, {**files, "config.json": {"model_type": kind}}
        yield f"no tokenizer_config.json, {kind}", "tiny-llama", BOS_TEMPLATE, {"config.json": {"model_type": kind}}
        bare = {"config.json": {"model_type": kind}, "special_tokens_map.json": MAP}
        yield f"only the map, {kind}", "tiny-llama", BARE, bare
    by_config = {"config.json": {"model_type": "llama", "tokenizer_class": "PreTrainedTokenizerFast"}}
    yield "class of config.json", "tiny-llama", BARE, {"tokenizer_config.json": plain, **by_config}
    for kind in ("PreTrainedTokenizerFast", "LlamaTokenizerFast", "Qwen2TokenizerFast"):
        files = {"tokenizer_config.json": {"tokenizer_class": kind}, "special_tokens_map.json": MAP}
        yield f"map beside a bare config, {kind}", "tiny-llama", BOS_TEMPLATE, files
        clash = {"tokenizer_config.json": {**NAMED, "bos_token": EOS, "tokenizer_class": kind}}
        yield f"the map wins without a decoder, {kind}", "tiny-llama", BARE, {**clash, "special_tokens_map.json": MAP}
        clash = {"tokenizer_config.json": {**DECODER, **NAMED, "bos_token": EOS, "tokenizer_class": kind}}
        yield f"the config wins with a decoder, {kind}", "tiny-llama", BARE, {**clash, "special_tokens_map.json": MAP}
        more = {"special_tokens_map.json": {**MAP, "additional_special_tokens": ["<|new|>", added("<|left|>", lstrip=True)]}}
        yield f"additional tokens of the map, {kind}", "tiny-llama", BOS_TEMPLATE, {
            "tokenizer_config.json": {"tokenizer_class": kind}, **more
        }
        files = {"tokenizer_config.json": {**NAMED, "tokenizer_class": kind}, "added_tokens.json": {"<|new|>": 1024, "[PAD]": 1025}}
        yield f"added_tokens.json, {kind}", "tiny-llama", BOS_TEMPLATE, {**files, "special_tokens_map.json": {"pad_token": "[PAD]"}}
    fast = {"tokenizer_class": "PreTrainedTokenizerFast"}
    pad = {**DECODER["added_tokens_decoder"], "1024": added("[PAD]")}
    yield "pad token added by the config", "tiny-llama", BOS_TEMPLATE, {
        "tokenizer_config.json": {**NAMED, **fast, "pad_token": "[PAD]", "added_tokens_decoder": pad}
    }
    changed = {"0": added(BOS), "1": added(EOS, lstrip=True, rstrip=True), "1024": added("<|new|>", special=False, normalized=True)}
    changed["1025"] = added("<|left|>", lstrip=True)
    yield "flags changed by the config", "tiny-llama", BOS_TEMPLATE, {
        "tokenizer_config.json": {**NAMED, **fast, "added_tokens_decoder": changed}
    }
    yield "ids of the config do not count", "tiny-llama", BOS_TEMPLATE, {
        "tokenizer_config.json": {**NAMED, **fast, "added_tokens_decoder": {"3000": added("<|new|>"), "2000": added("<|left|>")}}
    }
    yield "special tokens split", "tiny-llama", BOS_TEMPLATE, {
        "tokenizer_config.json": {**NAMED, **DECODER, **fast, "split_special_tokens": True}
    }
    typed = {"__type": "AddedToken", **added("<|new|>")}
    yield "a special token of a type", "tiny-llama", BOS_TEMPLATE, {
        "tokenizer_config.json": {**DECODER, **fast, "bos_token": typed, "eos_token": EOS}
    }
    for kind in ("PreTrainedTokenizerFast", "GPT2TokenizerFast", "Qwen2TokenizerFast", "LlamaTokenizerFast"):
        for stored in (False, True):
            for wanted in (None, True, False):
                config = {**NAMED, **DECODER, "tokenizer_class": kind}
                if wanted is not None:
                    config["add_prefix_space"] = wanted
                    if kind == "LlamaTokenizerFast":
                        continue
                keys = {**BARE, "pre_tokenizer": {**BYTE_LEVEL, "add_prefix_space": stored}}
                yield f"space {stored} to {wanted}, {kind}", "tiny-llama", keys, {"tokenizer_config.json": config}
    keys = {**BARE, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [SPLIT, {**NO_REGEX, "add_prefix_space": True}]}}
    for kind in ("PreTrainedTokenizerFast", "LlamaTokenizerFast"):
        yield f"a sequence keeps its space, {kind}", "tiny-llama", keys, {
            "tokenizer_config.json": {**NAMED, **DECODER, "tokenizer_class": kind}
        }
    for legacy in (None, True, False):
        for space in (None, True, False):
            for model in (False, True):
                config = {**LLAMA, **LLAMA_DECODER, "tokenizer_class": "LlamaTokenizer"}
                config |= {} if legacy is None else {"legacy": legacy}
                config |= {} if space is None else {"add_prefix_space": space}
                name = f"legacy {legacy}, space {space}, sentencepiece {model}"
                yield name, "spm", {}, {"tokenizer_config.json": config, "sentencepiece": model}
    yield "no bos to add", "tiny-llama", BARE, {
        "tokenizer_config.json": {**DECODER, "bos_token": None, "eos_token": EOS, "tokenizer_class": "LlamaTokenizerFast"}
    }
    yield "null is false", "tiny-llama", BARE, {
        "tokenizer_config.json": {**DECODER, **NAMED, "add_bos_token": None, "tokenizer_class": "LlamaTokenizerFast"}
    }
    for flags in ({}, {"add_bos_token": True}, {"add_bos_token": False}, {"add_eos_token": True}):
        for keys in (BARE, BOS_TEMPLATE, {"post_processor": None}):
            kind = "none" if keys["post_processor"] is None else keys["post_processor"]["type"]
            config = {**NAMED, "tokenizer_class": "TokenizersBackend", **flags}
            yield f"TokenizersBackend {flags} {kind}", "tiny-llama", keys, {"tokenizer_config.json": config}


def sentencepiece_model():
    """A byte-fallback model trained on LINES."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES * 40), model_writer=model, vocab_size=360, model_type="bpe", byte_fallback=True,
        character_coverage=1.0, normalization_rule_name="identity", remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True, split_digits=True, minloglevel=2, num_threads=1,
    )
    return model.getvalue()


def make_base(model):
    """The tokenizer.json that transformers 4 makes of the model."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "tokenizer.model"
        path.write_bytes(model)
        transformers.LlamaTokenizerFast(vocab_file=str(path), legacy=True, add_prefix_space=True).save_pretrained(folder)
        return json.loads((pathlib.Path(folder) / "tokenizer.json").read_text())


def tokenize(directory):
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # noqa: BLE001, whatever it refuses with
        return {"refused": type(error).__name__}
    names = ["bos_token", "eos_token", "unk_token", "pad_token"]
    return {
        "class": type(tokenizer).__name__,
        "tokens": {name: getattr(tokenizer, name) for name in names if getattr(tokenizer, name, None)},
        "ids": [[tokenizer.encode(text), tokenizer.encode(text, add_special_tokens=False)] for text in TEXTS],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    major = transformers.__version__.split(".")[0]
    spm, model = FOLDER / "spm.json", None
    if major == "4":
        model = sentencepiece_model()
        base = make_base(model)
        if arguments.check:
            if json.loads(spm.read_text()) != base:
                sys.exit(f"{spm} differs")
        else:
            FOLDER.mkdir(exist_ok=True)
            spm.write_text(json.dumps(base, ensure_ascii=False) + "\n")
    bases = {"tiny-llama": json.loads((MODELS / "tiny-llama" / "tokenizer.json").read_text()), "spm": json.loads(spm.read_text())}
    found = []
    for name, base, keys, files in cases():
        if files.get("sentencepiece") and model is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            directory = pathlib.Path(folder)
            (directory / "tokenizer.json").write_text(json.dumps({**bases[base], **keys}))
            written = {key: value for key, value in files.items() if key != "sentencepiece"}
            written.setdefault("config.json", {"model_type": "llama"})
            for file, content in written.items():
                (directory / file).write_text(json.dumps(content))
            if files.get("sentencepiece"):
                (directory / "tokenizer.model").write_bytes(model)
            case = {"name": name, "base": base, "keys": keys, "files": written}
            case["sentencepiece"] = bool(files.get("sentencepiece"))
            found.append({**case, **tokenize(directory)})
    golden = {"transformers": transformers.__version__, "texts": TEXTS, "cases": found}
    path = FOLDER / f"ids-{major}.json"
    text = "{\n" + ",\n".join(
        f"{json.dumps(key)}: " + (
            "[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in value) + "\n]"
            if key == "cases" else json.dumps(value, ensure_ascii=False)
        ) for key, value in golden.items()
    ) + "\n}\n"
    if not arguments.check:
        path.write_text(text)
    elif path.read_text() != text:
        sys.exit(f"{path} differs")
    print(f"{path}: {len(found)} cases")


if __name__ == "__main__":
    main()
