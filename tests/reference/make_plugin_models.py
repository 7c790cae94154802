"""Write the reference models of `examples/plugins` and of the templates of `anemll plugin new`.

    python make_plugin_models.py [--texts DIR] [--only NAME ...] [--threads N] [--steps N]
    python make_plugin_models.py --check     # recompute the logits from the weights that exist, and compare

`starcoder2` is trained, small enough to chat with, and has tiny-llama's tokenizer; `mpt` and `template` have seeded
random weights. `template` is a Llama; the arch template has it under a model type of its own. Each directory holds a
Hugging Face model and golden/:
    ids.npy     int32   [T]
    logits.npy  float16 [T, vocabulary]  transformers, float32, CPU, eager, from the weights rounded to their dtype
"""

import argparse
import json
import pathlib
import shutil

import numpy
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

import make_tiny_models
import reference_logits
from reference_json import write_json

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TOKENIZER = HERE.parent / "models" / "tiny-llama"
POSITIONS = 96
GOLDEN_TOLERANCE = 1e-3

STARCODER2 = {
    "architectures": ["Starcoder2ForCausalLM"],
    "model_type": "starcoder2",
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "embedding_dropout": 0.0,
    "eos_token_id": 1,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 96,
    "initializer_range": 0.02,
    "intermediate_size": 288,
    "max_position_embeddings": 1024,
    "norm_epsilon": 1e-05,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "residual_dropout": 0.0,
    "rope_theta": 10000.0,
    "sliding_window": 64,
    "tie_word_embeddings": True,
    "torch_dtype": "float16",
    "use_bias": True,
    "use_cache": True,
    "vocab_size": make_tiny_models.VOCABULARY,
}

MPT = {
    "architectures": ["MptForCausalLM"],
    "model_type": "mpt",
    "attn_config": {
        "alibi": True,
        "alibi_bias_max": 8,
        "attn_impl": "torch",
        "attn_pdrop": 0.0,
        "attn_type": "multihead_attention",
        "clip_qkv": None,
        "prefix_lm": False,
        "qk_ln": False,
        "softmax_scale": None,
    },
    "bos_token_id": 1,
    "d_model": 60,
    "emb_pdrop": 0.0,
    "eos_token_id": 2,
    "expansion_ratio": 4,
    "layer_norm_epsilon": 1e-05,
    "learned_pos_emb": True,
    "logit_scale": None,
    "max_seq_len": 256,
    "n_heads": 6,  # no power of two: its slopes are those of eight heads, taken in turns
    "n_layers": 2,
    "no_bias": True,
    "norm_type": "low_precision_layernorm",
    "resid_pdrop": 0.0,
    "tie_word_embeddings": True,
    "torch_dtype": "float16",
    "use_cache": True,
    "vocab_size": 304,
}

TEMPLATE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "attention_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 32,
    "intermediate_size": 48,
    "max_position_embeddings": 1024,
    "mlp_bias": False,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "float16",
    "vocab_size": 128,
}

# The same model as the arch template has it.
ARCH = {"architectures": ["MyPluginForCausalLM"], "model_type": "my-plugin"}
ARCH_CONFIG = ROOT / "crates/scaffold/templates/arch/model/config.json"

MODELS = {
    "starcoder2": (STARCODER2, ROOT / "examples/plugins/starcoder2/model"),
    "mpt": (MPT, ROOT / "examples/plugins/mpt/model"),
    "template": (TEMPLATE, ROOT / "crates/scaffold/templates/model/model"),
}


def new_model(config: dict, implementation: str) -> torch.nn.Module:
    torch.manual_seed(make_tiny_models.SEED)
    values = dict(config)
    known = AutoConfig.for_model(values.pop("model_type"), **values)
    return AutoModelForCausalLM.from_config(known, torch_dtype=torch.float32, attn_implementation=implementation)


def randomize(model: torch.nn.Module, name: str) -> None:
    """Weights so large that every part of the model shows in the logits."""
    generator = torch.Generator().manual_seed(sum(name.encode()))
    with torch.no_grad():
        for key, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.copy_(1.0 + 0.3 * noise if "norm" in key and key.endswith("weight") else 0.1 * noise)
            else:
                embedding = "wte" in key or "embed_tokens" in key
                parameter.copy_(noise * (0.7 if embedding else 1.6 / parameter.shape[1] ** 0.5))


def random_ids(name: str, vocabulary: int) -> numpy.ndarray:
    """Token ids, int32 [POSITIONS], with repeats, so that attention has something to find."""
    random = numpy.random.default_rng(list(name.encode()))
    ids = random.integers(0, vocabulary, POSITIONS)
    for position in range(20, POSITIONS):
        if random.random() < 0.3:
            ids[position] = ids[position - int(random.integers(1, 20))]
    return ids.astype(numpy.int32)


def make(name: str, arguments: argparse.Namespace) -> None:
    config, directory = MODELS[name]
    golden = directory / "golden"
    golden.mkdir(parents=True, exist_ok=True)
    if name == "starcoder2":
        texts, held_out = make_tiny_models.read_texts(arguments.texts)
        for file in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"]:
            shutil.copy(TOKENIZER / file, directory)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(directory).backend_tokenizer
        tokens = make_tiny_models.training_tokens(tokenizer, texts, config["bos_token_id"], config["eos_token_id"])
        ids = make_tiny_models.held_out_ids(tokenizer, held_out, 200)
        model = new_model(config, "sdpa")
        make_tiny_models.initialize(model, config["num_hidden_layers"])
        loss = make_tiny_models.train(model, tokens, ids, arguments.steps, config["bos_token_id"])
        print(f"  final training loss {loss:.3f} nats per token")
    else:
        model = new_model(config, "eager")
        randomize(model, name)
        ids = random_ids(name, config["vocab_size"])
    make_tiny_models.save_model(model, directory, torch.float16)
    write_json(directory / "config.json", config)
    if name == "template":
        write_json(ARCH_CONFIG, {**config, **ARCH})
    logits = reference_logits.compute_logits(reference_logits.load_model(directory), ids)
    distinct = len(numpy.unique(logits.argmax(axis=1)))
    if distinct < len(ids) // 8:
        raise SystemExit(f"error: {name}: only {distinct} tokens are ever the likeliest")
    numpy.save(golden / "ids.npy", ids)
    numpy.save(golden / "logits.npy", logits.astype(numpy.float16))
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    print(f"{name}: {size} bytes, spread {logits.std():.2f}, {distinct} likeliest tokens", flush=True)


def check(name: str) -> bool:
    """Recompute the golden logits from the weights on disk; True if they are as stored."""
    config, directory = MODELS[name]
    same = json.loads((directory / "config.json").read_text()) == config
    if name == "template":
        same = same and json.loads(ARCH_CONFIG.read_text()) == {**config, **ARCH}
    ids = numpy.load(directory / "golden" / "ids.npy")
    logits = reference_logits.compute_logits(reference_logits.load_model(directory), ids)
    difference = reference_logits.difference_beyond_rounding(numpy.load(directory / "golden" / "logits.npy"), logits)
    good = same and difference <= GOLDEN_TOLERANCE
    print(f"{'ok  ' if good else 'FAIL'} {name}: logits differ by {difference:.2e}, config.json {'same' if same else 'differs'}")
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=pathlib.Path, default=pathlib.Path("../shared/texts"), help="directory of the three texts of make_tiny_models.py")
    parser.add_argument("--only", nargs="+", choices=sorted(MODELS), default=list(MODELS), help="make just these")
    parser.add_argument("--steps", type=int, default=500, help="training batches of starcoder2")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="make nothing: compare golden files with the weights that exist")
    arguments = parser.parse_args()
    reference_logits.use_threads(arguments.threads)
    if arguments.check:
        if not all([check(name) for name in arguments.only]):
            raise SystemExit(1)
        return
    for name in arguments.only:
        make(name, arguments)


if __name__ == "__main__":
    main()
