"""What all reference scripts share: loading a model, computing its logits, and writing them.

The reference is always Hugging Face transformers, float32, CPU, attn_implementation="eager",
with the weights as they stand on disk (rounded to their 16-bit dtype, then widened).

Two file formats hold logits:
  * dense   `NAME.npy`: float16 or float32 [positions, vocabulary];
  * largest `NAME.npz` (np.savez, stored uncompressed):
        indices    int32   [positions, K]  token ids of the K largest logits, largest first
        logits     float32 [positions, K]  their logits
        logsumexp  float32 [positions]     over the whole vocabulary
        vocab_size int32   []
"""

import json
import pathlib

import numpy
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

VERSION = int(transformers.__version__.split(".")[0])


def use_threads(count: int) -> None:
    """Limit torch to `count` threads and choose its deterministic kernels."""
    torch.set_num_threads(count)
    torch.use_deterministic_algorithms(True)


def spelling_of_this_version(config: dict) -> dict:
    """Give config.json's dictionary as the installed transformers spells it."""
    return dict(config) if VERSION >= 5 else old_rope_spelling(config)


def old_rope_spelling(config: dict) -> dict:
    """Give config.json's dictionary with `rope_parameters` (transformers 5) spelled as `rope_theta` and `rope_scaling`.

    The pinned transformers knows only the older spelling; the mathematics is the same.
    """
    config = dict(config)
    parameters = config.pop("rope_parameters", None)
    if parameters is not None:
        parameters = dict(parameters)
        if "rope_theta" in parameters:
            config["rope_theta"] = parameters.pop("rope_theta")
        config["rope_scaling"] = None if parameters.get("rope_type", "default") == "default" else parameters
    if config.get("model_type") == "ministral3":
        # Unknown to it as well: Mistral, whose queries are scaled from the length of pretraining on. No text here is so long.
        config["model_type"] = "mistral"
        config["rope_scaling"] = {key: value for key, value in config["rope_scaling"].items() if key != "llama_4_scaling_beta"}
    return config


def load_model(directory: pathlib.Path) -> torch.nn.Module:
    """Load a Hugging Face directory for reference: float32, CPU, eager attention."""
    config_path = directory / "config.json"
    if not config_path.is_file():
        raise SystemExit(f"error: {config_path} does not exist: give the directory of a Hugging Face model")
    values = spelling_of_this_version(json.loads(config_path.read_text(encoding="utf-8")))
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    model = AutoModelForCausalLM.from_pretrained(
        directory, config=config, torch_dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    return model.eval()


def compute_logits(model: torch.nn.Module, ids: numpy.ndarray) -> numpy.ndarray:
    """Logits, float32 [positions, vocabulary], of one sequence of token ids, integer [positions]."""
    with torch.no_grad():
        batch = torch.from_numpy(ids.astype(numpy.int64))[None]
        return model(batch, use_cache=False).logits[0].float().numpy()


def greedy_continuation(model: torch.nn.Module, ids: numpy.ndarray, count: int) -> numpy.ndarray:
    """`count` tokens, int32 [count], each the argmax after `ids` and those before it. No end token stops it."""
    known = [int(token) for token in ids]
    with torch.no_grad():
        batch = torch.tensor([known])
        cache = None
        answer = []
        for _ in range(count):
            result = model(batch, past_key_values=cache, use_cache=True)
            cache = result.past_key_values
            answer.append(int(result.logits[0, -1].argmax()))
            batch = torch.tensor([[answer[-1]]])
    return numpy.array(answer, dtype=numpy.int32)


def largest_logits(logits: numpy.ndarray, count: int) -> dict:
    """The `largest` format's arrays, of logits float32 [positions, vocabulary]. Equal logits keep the lower id first."""
    count = min(count, logits.shape[1])
    order = numpy.argsort(-logits, axis=1, kind="stable")[:, :count].astype(numpy.int32)
    wide = logits.astype(numpy.float64)
    peak = wide.max(axis=1)
    logsumexp = peak + numpy.log(numpy.exp(wide - peak[:, None]).sum(axis=1))
    return {
        "indices": order,
        "logits": numpy.take_along_axis(logits, order, axis=1).astype(numpy.float32),
        "logsumexp": logsumexp.astype(numpy.float32),
        "vocab_size": numpy.array(logits.shape[1], dtype=numpy.int32),
    }


def cross_entropy(logits: numpy.ndarray, ids: numpy.ndarray) -> float:
    """Mean nats per token with which `logits` [positions, vocabulary] foretell the next of `ids` [positions]."""
    wide = logits[:-1].astype(numpy.float64)
    peak = wide.max(axis=1)
    logsumexp = peak + numpy.log(numpy.exp(wide - peak[:, None]).sum(axis=1))
    return float((logsumexp - wide[numpy.arange(len(wide)), ids[1:]]).mean())


def difference_beyond_rounding(stored: numpy.ndarray, computed: numpy.ndarray) -> float:
    """Largest |stored - computed| over what rounding `computed` to the dtype of `stored` explains (half a step)."""
    computed = computed.astype(numpy.float64)
    half_step = numpy.zeros_like(computed)
    if stored.dtype == numpy.float16:
        half_step = numpy.spacing(numpy.abs(stored)).astype(numpy.float64) / 2
    return float(numpy.maximum(numpy.abs(stored.astype(numpy.float64) - computed) - half_step, 0.0).max())
