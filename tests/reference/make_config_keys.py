"""Make config_keys/VERSION.json: which keys of config.json change what models compute, as transformers itself shows.

    python make_config_keys.py            # writes config_keys/VERSION.json of the installed transformers
    python make_config_keys.py --only granite    # as it is, but for these models
    python make_config_keys.py --check    # writes nothing; fails if the file would change

For a model of every family in ../models, each key that its configuration class knows, or that its config.json has, is
given other values, one at a time. A value *acts* where the model then has other weights, or gives other logits with
the same ones. Values with which transformers fails are left out.

The file has, for each model, `defaults`: what the class takes for keys that the model's config.json does not have,
and `acting`: the values that act, by key. Objects are changed one key at a time, as `rope_scaling.factor`.

transformers 4 makes the families that it knows (requirements.txt), transformers 5 those that only it knows
(requirements-5.txt).
"""

import argparse
import copy
import inspect
import json
import pathlib
import warnings

import numpy
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

import reference_logits

HERE = pathlib.Path(__file__).resolve().parent
VARIANTS = HERE.parent / "models" / "variants"

# A model of each family.
MODELS = (
    "arcee", "cohere", "cohere2", "ernie4_5", "exaone4", "gemma2", "gemma3", "glm", "glm4", "granite", "granite-4",
    "helium", "lfm2", "mistral-short-window", "olmo2", "olmo3", "phi3-short-factors", "qwen2-rope-yarn",
    "qwen3-rope-linear", "rope-yarn", "smollm3-listed", "stablelm",
)
MODELS_OF_5 = ("ministral3", "qwen3_5")

# Keys that say how PyTorch is to compute, which model it is, or what to do with weights that are drawn anew.
LEFT_OUT = {
    "_attn_implementation", "_name_or_path", "architectures", "attn_implementation", "auto_map", "dtype", "model_type",
    "name_or_path", "torch_dtype", "torchscript", "transformers_version", "use_bfloat16",
}

# What a text may be instead.
TEXTS = ("silu", "gelu", "gelu_pytorch_tanh", "relu", "nope", "rope", "full_attention", "sliding_attention", "conv", "linear")

SMALLEST_CHANGE = 1e-4  # of a logit, relative to the largest


def others(value: object) -> list:
    """Other values of the kind of `value`."""
    if isinstance(value, bool):
        return [not value]
    if value is None:
        return [True, 2, 0.5]
    if isinstance(value, int):
        return [2 * value or 2, value + 1, 0]
    if isinstance(value, float):
        return [2 * value or 0.5, 0.0]
    if isinstance(value, str):
        return [text for text in TEXTS if text != value]
    if isinstance(value, list):
        changed = [value[::-1], value[:1] * len(value), value[-1:] * len(value)]
        if all(isinstance(item, (int, float)) for item in value):
            changed.append([2 * item for item in value])
        return [item for number, item in enumerate(changed) if item != value and item not in changed[:number]]
    return []


def changes(config: dict, key: str, value: object) -> list[tuple[str, object, dict]]:
    """Configurations with one key changed: its path, the value, and the whole."""
    if isinstance(value, dict) and value:
        return [
            (f"{key}.{inner}", other, {**config, key: {**value, inner: other}})
            for inner in sorted(value)
            for other in others(value[inner])
        ]
    return [(key, other, {**config, key: other}) for other in others(value)]


def build(config: dict) -> torch.nn.Module:
    """The model of a configuration, with weights that are drawn."""
    values = copy.deepcopy(config)
    for key in ("torch_dtype", "dtype"):
        values.pop(key, None)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model(values.pop("model_type"), **values), torch_dtype=torch.float32, attn_implementation="eager"
    ).eval()


def shapes(model: torch.nn.Module) -> dict:
    """The shapes of a model's weights."""
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


class Base:
    """A model of ../models, its weights and what it says."""

    def __init__(self, name: str) -> None:
        directory = VARIANTS / name
        self.config = json.loads((directory / "config.json").read_text())
        self.weights = {key: value.float() for key, value in load_file(directory / "model.safetensors").items()}
        self.ids = numpy.load(directory / "golden" / "ids.npy")[:120]
        model = build(self.config)
        self.shapes = shapes(model)
        self.tied = bool(model.config.tie_word_embeddings)
        self.logits = self.logits_of(model)

    def logits_of(self, model: torch.nn.Module) -> numpy.ndarray:
        """Logits of a model with this one's weights."""
        weights = dict(self.weights)
        if "lm_head.weight" not in weights:
            weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
        model.load_state_dict(weights, strict=False)
        return reference_logits.compute_logits(model, self.ids)

    def acts(self, config: dict) -> bool | None:
        """Whether a configuration makes another model; None where transformers fails."""
        try:
            model = build(config)
            if shapes(model) != self.shapes or bool(model.config.tie_word_embeddings) != self.tied:
                return True
            logits = self.logits_of(model)
        except Exception:
            return None
        change = numpy.abs(logits - self.logits).max() / numpy.abs(self.logits).max()
        return not change <= SMALLEST_CHANGE  # no number, too


def plain(value: object) -> bool:
    """Whether a value can stand in JSON as it is."""
    try:
        return json.loads(json.dumps(value)) == value
    except (TypeError, ValueError):
        return False


def examine(name: str) -> dict:
    """Defaults and acting values of a model."""
    base = Base(name)
    kind = type(AutoConfig.for_model(base.config["model_type"]))
    defaults = {key: value for key, value in kind().to_dict().items() if plain(value)}
    for key, parameter in inspect.signature(kind.__init__).parameters.items():
        if parameter.default is not inspect.Parameter.empty and plain(parameter.default):
            defaults.setdefault(key, parameter.default)
    generic = PretrainedConfig().to_dict()
    known = {key: value for key, value in {**defaults, **base.config}.items() if key not in LEFT_OUT}
    acting: dict[str, list] = {}
    for key in sorted(known):
        for path, other, config in changes(base.config, key, known[key]):
            if base.acts(config):
                acting.setdefault(path, []).append(other)
    own = {
        key: defaults[key]
        for key in sorted(defaults)
        if key not in base.config and key not in LEFT_OUT and not (key in generic and generic[key] == defaults[key])
    }
    return {"acting": acting, "defaults": own}


def lines(found: dict) -> str:
    """JSON with a line for each model."""
    head = {key: value for key, value in found.items() if key != "models"}
    models = ",\n".join(f"    {json.dumps(name)}: {json.dumps(model)}" for name, model in found["models"].items())
    return json.dumps(head, indent=2)[:-2] + ',\n  "models": {\n' + models + "\n  }\n}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file would change")
    parser.add_argument("--only", nargs="+", metavar="MODEL", help="examine these models anew, and keep what is said of others")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    reference_logits.use_threads(1)
    models = MODELS_OF_5 if reference_logits.VERSION >= 5 else MODELS
    path = HERE / "config_keys" / f"{transformers.__version__}.json"
    kept = json.loads(path.read_text())["models"] if arguments.only else {}
    generic = {key: value for key, value in PretrainedConfig().to_dict().items() if key not in LEFT_OUT and plain(value)}
    examined = {name: kept[name] if arguments.only and name not in arguments.only else examine(name) for name in models}
    found = {"generic": generic, "models": examined, "transformers": transformers.__version__}
    if arguments.check:
        if json.loads(path.read_text()) != json.loads(json.dumps(found)):
            raise SystemExit(f"error: {path.name} would change")
        return
    path.parent.mkdir(exist_ok=True)
    path.write_text(lines(found), encoding="utf-8")
    for name, model in found["models"].items():
        print(f"{name}: {sum(map(len, model['acting'].values()))} values of {len(model['acting'])} keys act")


if __name__ == "__main__":
    main()
