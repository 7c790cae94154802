"""Train the three small language models below tests/models, and write their reference logits.

    python make_tiny_models.py [--texts DIR] [--output DIR] [--only NAME ...] [--threads N] [--steps N]
    python make_tiny_models.py --check      # recompute the logits from the weights that exist, and compare

Each model directory (at most 2 MB) holds config.json, generation_config.json, model.safetensors, tokenizer.json,
tokenizer_config.json and special_tokens_map.json. Beside them `golden/<name>/` holds
    ids.npy     int32   [300]             the held-out text's first tokens, as the tokenizer gives them
    logits.npy  float16 [300, vocabulary] transformers, float32, CPU, eager, from the weights rounded to their dtype
    greedy.npy  int32   [64]              greedy continuation of ids[:100]

The texts are alice29.txt, asyoulik.txt and lcet10.txt; the last quarter of lcet10.txt is never trained on.
"""

import argparse
import math
import pathlib
import time

import numpy
import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

import reference_logits
from reference_json import write_json

TEXT_NAMES = ["alice29.txt", "asyoulik.txt", "lcet10.txt"]
VOCABULARY = 1024
POSITIONS = 300
GREEDY_PROMPT = 100
GREEDY_COUNT = 64
SIZE_LIMIT = 2_000_000
SEQUENCE = 256
BATCH = 12
SEED = 20250111

# The split that Qwen's tokenizers use before bytes are mapped.
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
QWEN_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

RECIPES = {
    "tiny-llama": {
        "tokenizer": "llama",
        "dtype": torch.bfloat16,
        "config": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "head_dim": 32,
            "hidden_act": "silu",
            "hidden_size": 128,
            "initializer_range": 0.02,
            "intermediate_size": 352,
            "max_position_embeddings": 1024,
            "mlp_bias": False,
            "num_attention_heads": 4,
            "num_hidden_layers": 4,
            "num_key_value_heads": 2,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_scaling": None,
            "rope_theta": 10000.0,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
            "use_cache": True,
            "vocab_size": VOCABULARY,
        },
    },
    "tiny-qwen2": {
        "tokenizer": "qwen",
        "dtype": torch.float16,
        "config": {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "attention_dropout": 0.0,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "hidden_act": "silu",
            "hidden_size": 128,
            "initializer_range": 0.02,
            "intermediate_size": 352,
            "max_position_embeddings": 1024,
            "max_window_layers": 4,
            "num_attention_heads": 4,
            "num_hidden_layers": 4,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-06,
            "rope_theta": 1000000.0,
            "sliding_window": 1024,
            "tie_word_embeddings": True,
            "torch_dtype": "float16",
            "use_cache": True,
            "use_sliding_window": False,
            "vocab_size": VOCABULARY,
        },
    },
    "tiny-qwen3": {
        "tokenizer": "qwen",
        "dtype": torch.bfloat16,
        "config": {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "head_dim": 64,
            "hidden_act": "silu",
            "hidden_size": 96,
            "initializer_range": 0.02,
            "intermediate_size": 320,
            "max_position_embeddings": 1024,
            "max_window_layers": 4,
            "num_attention_heads": 4,
            "num_hidden_layers": 4,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-06,
            "rope_scaling": None,
            "rope_theta": 1000000.0,
            "sliding_window": None,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "use_cache": True,
            "use_sliding_window": False,
            "vocab_size": VOCABULARY,
        },
    },
}


def read_texts(directory: pathlib.Path) -> tuple[list[str], str]:
    """The training texts, and the held-out last quarter of lcet10.txt (cut at a line's end)."""
    training = []
    held_out = ""
    for name in TEXT_NAMES:
        path = directory / name
        if not path.is_file():
            raise SystemExit(f"error: {path} does not exist: give the directory of {', '.join(TEXT_NAMES)} as --texts")
        text = path.read_text(encoding="latin-1").replace("\r\n", "\n").replace("\x1a", "")
        if name == "lcet10.txt":
            cut = text.index("\n", len(text) * 3 // 4) + 1
            text, held_out = text[:cut], text[cut:]
        training.append(text)
    return training, held_out


def train_tokenizer(style: str, texts: list[str]) -> tuple[Tokenizer, dict, dict]:
    """A byte-level BPE tokenizer, with the contents of tokenizer_config.json and special_tokens_map.json.

    Style `llama` puts a beginning token in front of every text; style `qwen` normalizes to NFC, splits like
    Qwen's tokenizers and adds nothing.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.decoder = decoders.ByteLevel()
    if style == "llama":
        special = ["<|begin_of_text|>", "<|end_of_text|>"]
        begin, end, padding, template = special[0], special[1], special[1], LLAMA_TEMPLATE
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        begin, end, padding, template = None, special[2], special[0], QWEN_TEMPLATE
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise SystemExit(f"error: the tokenizer has {tokenizer.get_vocab_size()} tokens, not {VOCABULARY}: give longer texts")
    if begin is not None:
        tokenizer.post_processor = processors.Sequence(
            [
                processors.ByteLevel(trim_offsets=True),
                processors.TemplateProcessing(
                    single=f"{begin} $A",
                    pair=f"{begin} $A {begin}:1 $B:1",
                    special_tokens=[(begin, tokenizer.token_to_id(begin))],
                ),
            ]
        )
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)

    def describe(token: str) -> dict:
        return {"content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}

    config = {
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(tokenizer.token_to_id(token)): {**describe(token), "special": True} for token in special
        },
        "bos_token": begin,
        "chat_template": template,
        "clean_up_tokenization_spaces": False,
        "eos_token": end,
        "model_max_length": 1024,
        "pad_token": padding,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    names = {"eos_token": describe(end), "pad_token": describe(padding)}
    if begin is not None:
        names = {"bos_token": describe(begin), **names}
    return tokenizer, config, names


def training_tokens(tokenizer: Tokenizer, texts: list[str], begin: int | None, end: int) -> torch.Tensor:
    """All training texts as one row of token ids, int64 [tokens], each text between its special tokens."""
    ids: list[int] = []
    for text in texts:
        ids += [] if begin is None else [begin]
        ids += tokenizer.encode(text, add_special_tokens=False).ids
        ids.append(end)
    return torch.tensor(ids, dtype=torch.int64)


def held_out_ids(tokenizer: Tokenizer, text: str, count: int) -> numpy.ndarray:
    """The first `count` token ids, int32 [count], of `text` as the tokenizer's user gets them."""
    ids = tokenizer.encode(text).ids[:count]
    if len(ids) < count:
        raise SystemExit(f"error: the held-out text has only {len(ids)} tokens, {count} are needed: give longer texts")
    return numpy.array(ids, dtype=numpy.int32)


def initialize(model: torch.nn.Module, layers: int) -> None:
    """Scale the weights by fan-in: transformers' fixed deviation learns slowly at so small a width."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim != 2:
                continue
            deviation = 0.05 if "embed_tokens" in name else 1.0 / math.sqrt(parameter.shape[1])
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                deviation /= math.sqrt(2 * layers)
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation)


def train(model: torch.nn.Module, tokens: torch.Tensor, held_out: numpy.ndarray, steps: int, begin: int | None) -> float:
    """Train with AdamW for `steps` batches of BATCH rows of SEQUENCE tokens; return the last training loss (mean of 20)."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim != 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=1.0,
        betas=(0.9, 0.97),
    )
    generator = torch.Generator().manual_seed(SEED + 1)
    peak_rate, warm_up = 4e-3, 40
    losses: list[float] = []
    started = time.monotonic()
    model.train()
    for step in range(steps):
        rate = peak_rate * min(1.0, (step + 1) / warm_up) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        starts = torch.randint(0, len(tokens) - SEQUENCE - 1, (BATCH,), generator=generator)
        rows = torch.stack([tokens[start : start + SEQUENCE + 1] for start in starts])
        if begin is not None:
            rows[:, 0] = begin
        logits = model(rows[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), rows[:, 1:].reshape(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss))
        if (step + 1) % 100 == 0 or step + 1 == steps:
            model.eval()
            outside = reference_logits.cross_entropy(reference_logits.compute_logits(model, held_out), held_out)
            model.train()
            recent = sum(losses[-20:]) / len(losses[-20:])
            seconds = time.monotonic() - started
            print(f"  step {step + 1}/{steps}: loss {recent:.3f}, held out {outside:.3f}, {seconds:.0f} s", flush=True)
    model.eval()
    return sum(losses[-20:]) / len(losses[-20:])


def save_model(model: torch.nn.Module, directory: pathlib.Path, dtype: torch.dtype) -> None:
    """Write model.safetensors with every weight rounded to `dtype`; a tied head is left out, as is usual."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        rounded = tensor.detach().to(dtype).contiguous()
        if not torch.isfinite(rounded).all():
            raise SystemExit(f"error: {name} has values beyond {dtype}: train with more weight decay")
        tensors[name] = rounded
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def write_golden(directory: pathlib.Path, golden: pathlib.Path, tokenizer: Tokenizer, held_out: str) -> None:
    """Write ids.npy, logits.npy and greedy.npy for the model as it stands on disk."""
    golden.mkdir(parents=True, exist_ok=True)
    ids = held_out_ids(tokenizer, held_out, POSITIONS)
    model = reference_logits.load_model(directory)
    logits = reference_logits.compute_logits(model, ids)
    greedy = reference_logits.greedy_continuation(model, ids[:GREEDY_PROMPT], GREEDY_COUNT)
    numpy.save(golden / "ids.npy", ids)
    numpy.save(golden / "logits.npy", logits.astype(numpy.float16))
    numpy.save(golden / "greedy.npy", greedy)
    print(f"  golden: {reference_logits.cross_entropy(logits, ids):.3f} nats per token over {POSITIONS} held-out tokens")
    print(f"  prompt: {tokenizer.decode(ids[:GREEDY_PROMPT].tolist())[-160:]!r}")
    print(f"  greedy: {tokenizer.decode(greedy.tolist())!r}")


def evaluate(directory: pathlib.Path, tokenizer: Tokenizer, held_out: str) -> float:
    """Nats per token over windows of SEQUENCE tokens from the whole held-out text."""
    ids = numpy.array(tokenizer.encode(held_out).ids, dtype=numpy.int32)
    model = reference_logits.load_model(directory)
    windows = [ids[start : start + SEQUENCE] for start in range(0, len(ids) - SEQUENCE, SEQUENCE)]
    losses = [reference_logits.cross_entropy(reference_logits.compute_logits(model, window), window) for window in windows]
    return sum(losses) / len(losses)


def check_template(directory: pathlib.Path) -> None:
    """Fail unless transformers loads the tokenizer and applies its chat template."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False, add_generation_prompt=True)
    if "Hello" not in text:
        raise SystemExit(f"error: the chat template of {directory} lost the message: {text!r}")


def make(name: str, output: pathlib.Path, texts: list[str], held_out: str, steps: int) -> None:
    """Train and write one model, all its files and its golden files."""
    recipe = RECIPES[name]
    print(f"{name}:", flush=True)
    directory = output / name
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer, tokenizer_config, special_tokens = train_tokenizer(recipe["tokenizer"], texts)
    config = recipe["config"]
    begin = config["bos_token_id"] if tokenizer_config["bos_token"] is not None else None
    tokens = training_tokens(tokenizer, texts, begin, config["eos_token_id"])
    ids = held_out_ids(tokenizer, held_out, SEQUENCE)

    torch.manual_seed(SEED)
    values = dict(config)
    model_config = AutoConfig.for_model(values.pop("model_type"), **values)
    model = AutoModelForCausalLM.from_config(model_config, torch_dtype=torch.float32, attn_implementation="sdpa")
    initialize(model, config["num_hidden_layers"])
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"  {parameters} parameters, {len(tokens)} training tokens", flush=True)
    loss = train(model, tokens, ids, steps, begin)
    print(f"  final training loss {loss:.3f} nats per token")

    save_model(model, directory, recipe["dtype"])
    write_json(directory / "config.json", config)
    generation = {"do_sample": False, "eos_token_id": config["eos_token_id"]}
    if begin is not None:
        generation["bos_token_id"] = begin
    write_json(directory / "generation_config.json", generation)
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
    write_json(directory / "tokenizer_config.json", tokenizer_config)
    write_json(directory / "special_tokens_map.json", special_tokens)
    check_template(directory)

    size = sum(path.stat().st_size for path in directory.iterdir())
    if size > SIZE_LIMIT:
        raise SystemExit(f"error: {directory} has {size} bytes, more than {SIZE_LIMIT}: make its shapes smaller")
    print(f"  {size} bytes; {evaluate(directory, tokenizer, held_out):.3f} nats per token over the whole held-out text")
    write_golden(directory, output / "golden" / name, tokenizer, held_out)


def check(name: str, output: pathlib.Path) -> bool:
    """Recompute golden logits and continuation from the weights on disk; True if they are as stored."""
    golden = output / "golden" / name
    ids = numpy.load(golden / "ids.npy")
    model = reference_logits.load_model(output / name)
    logits = reference_logits.compute_logits(model, ids)
    difference = reference_logits.difference_beyond_rounding(numpy.load(golden / "logits.npy"), logits)
    greedy = reference_logits.greedy_continuation(model, ids[:GREEDY_PROMPT], GREEDY_COUNT)
    same = bool((greedy == numpy.load(golden / "greedy.npy")).all())
    good = difference <= 1e-3 and same
    print(f"{'ok  ' if good else 'FAIL'} {name}: logits differ by {difference:.2e}, greedy continuation {'same' if same else 'differs'}")
    return good


def main() -> None:
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=pathlib.Path, default=pathlib.Path("../shared/texts"), help="directory of the three texts")
    parser.add_argument("--output", type=pathlib.Path, default=here.parent / "models", help="where the model directories go")
    parser.add_argument("--only", nargs="+", choices=sorted(RECIPES), default=list(RECIPES), help="make just these")
    parser.add_argument("--steps", type=int, default=800, help="training batches per model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="train nothing: compare golden files with the weights that exist")
    arguments = parser.parse_args()
    reference_logits.use_threads(arguments.threads)
    if arguments.check:
        if not all([check(name, arguments.output) for name in arguments.only]):
            raise SystemExit(1)
        return
    texts, held_out = read_texts(arguments.texts)
    for name in arguments.only:
        make(name, arguments.output, texts, held_out, arguments.steps)


if __name__ == "__main__":
    main()
