"""Makes ../models/adapters: LoRA adapters of variants/rope-llama3, and the weights that peft merges them to.

Needs `pip install peft==0.17.1` besides. `--check` writes nothing and fails where a file would change.
"""

import argparse
import json
import pathlib
import shutil
import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
MODEL = HERE.parent / "models/variants/rope-llama3"
OUTPUT = HERE.parent / "models/adapters"
KEPT = ("adapter_config.json", "adapter_model.safetensors", "merged.safetensors")

ADAPTERS = {
    "plain": {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"]},
    "patterns": {
        "r": 4,
        "lora_alpha": 8,
        "use_rslora": True,
        "target_modules": ["k_proj", "o_proj", "down_proj", "embed_tokens"],
        "rank_pattern": {"down_proj": 2, r"layers\.1\.self_attn\.k_proj": 3},
        "alpha_pattern": {"o_proj": 3, r"layers\.0\.mlp\..*": 12},
    },
}


def load() -> torch.nn.Module:
    """The model, in float32."""
    return AutoModelForCausalLM.from_pretrained(MODEL, torch_dtype=torch.float32)


def make(name: str, options: dict, folder: pathlib.Path) -> None:
    """An adapter with random matrices, and what `merge_and_unload` makes of the weights that it changes."""
    torch.manual_seed(5)
    model = get_peft_model(load(), LoraConfig(task_type="CAUSAL_LM", **options))
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "lora_" in key:
                value.copy_(torch.randn_like(value) * 0.2)
    model.save_pretrained(folder / name, save_embedding_layers=False)
    path = folder / name / "adapter_config.json"
    config = json.loads(path.read_text())
    # What differs from run to run and from machine to machine.
    config["base_model_name_or_path"] = MODEL.name
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2) + "\n")
    before = load().state_dict()
    after = PeftModel.from_pretrained(load(), folder / name).merge_and_unload().state_dict()
    changed = {key: value.contiguous().clone() for key, value in after.items() if not torch.equal(value, before[key])}
    changed.pop("lm_head.weight", None)  # the embedding, to which it is tied
    save_file(changed, folder / name / "merged.safetensors")


def main() -> None:
    """Make all files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, and fail where a file would change")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for name, options in ADAPTERS.items():
            make(name, options, folder)
            for file in KEPT:
                made, kept = folder / name / file, OUTPUT / name / file
                if arguments.check and made.read_bytes() != kept.read_bytes():
                    raise SystemExit(f"error: {name}/{file} would change")
                if not arguments.check:
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(made, kept)


if __name__ == "__main__":
    main()
