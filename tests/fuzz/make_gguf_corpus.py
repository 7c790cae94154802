"""Makes corpus/gguf: small GGUF files of several architectures, types and tokenizers. Needs `pip install gguf==0.19.0`."""

import pathlib

import numpy
from gguf import GGMLQuantizationType, GGUFWriter, quants

OUTPUT = pathlib.Path(__file__).resolve().parent / "corpus" / "gguf"
WIDTH, HEADS, TOKENS = 32, 2, 12


def writer(name: str, architecture: str) -> GGUFWriter:
    """A file with the keys that every model has."""
    made = GGUFWriter(OUTPUT / f"{name}.gguf", architecture)
    made.add_context_length(64)
    made.add_embedding_length(WIDTH)
    made.add_block_count(1)
    made.add_feed_forward_length(WIDTH)
    made.add_head_count(HEADS)
    made.add_head_count_kv(1)
    made.add_layer_norm_rms_eps(1e-5)
    return made


def add(made: GGUFWriter, name: str, shape: tuple[int, ...], kind: GGMLQuantizationType) -> None:
    """A tensor of random values."""
    values = numpy.random.default_rng(len(name)).standard_normal(shape).astype(numpy.float32)
    plain = kind in (GGMLQuantizationType.F32, GGMLQuantizationType.F16)
    made.add_tensor(name, quants.quantize(values, kind), raw_dtype=None if plain else kind)


def finish(made: GGUFWriter) -> None:
    """Write the file."""
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()


def main() -> None:
    """Make all files."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    kinds = GGMLQuantizationType

    llama = writer("llama", "llama")
    llama.add_rope_dimension_count(16)
    llama.add_tokenizer_model("gpt2")
    llama.add_tokenizer_pre("llama-bpe")
    llama.add_token_list(["<s>", "a", "b", "ab", "c", "abc", "d", "e", "f", "g", "h", "[PAD11]"])
    llama.add_token_types([3] + [1] * 10 + [5])
    llama.add_token_merges(["a b", "ab c"])
    llama.add_bos_token_id(0)
    llama.add_chat_template("{{ messages }}")
    add(llama, "token_embd.weight", (TOKENS, WIDTH), kinds.Q8_0)
    add(llama, "blk.0.attn_q.weight", (32, WIDTH), kinds.Q4_0)
    add(llama, "blk.0.attn_k.weight", (16, WIDTH), kinds.F16)
    add(llama, "blk.0.attn_q.bias", (32,), kinds.F32)
    llama.add_tensor("rope_freqs.weight", numpy.ones(8, numpy.float32))
    finish(llama)

    gemma = writer("gemma3", "gemma3")
    gemma.add_key_length(16)
    gemma.add_sliding_window(8)
    gemma.add_tokenizer_model("llama")
    gemma.add_token_list(["<pad>", "<eos>", "<unk>", "\u2581", "a", "b", "ab", "\u2581a", "\u2581ab", "<0x0A>", "  ", "c"])
    gemma.add_token_scores([-1000.0] * 3 + [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0, 0.0, 0.0, -7.0])
    gemma.add_token_types([3, 3, 2, 1, 1, 1, 1, 1, 1, 6, 4, 1])
    gemma.add_unk_token_id(2)
    gemma.add_add_space_prefix(False)
    add(gemma, "token_embd.weight", (TOKENS, WIDTH), kinds.BF16)
    add(gemma, "blk.0.post_ffw_norm.weight", (WIDTH,), kinds.F32)
    finish(gemma)

    phi = writer("phi3", "phi3")
    phi.add_rope_scaling_orig_ctx_len(32)
    phi.add_sliding_window(0)
    add(phi, "token_embd.weight", (TOKENS, WIDTH), kinds.Q5_1)
    add(phi, "blk.0.attn_qkv.weight", (64, WIDTH), kinds.Q4_1)
    for name in ("rope_factors_long.weight", "rope_factors_short.weight"):
        phi.add_tensor(name, numpy.full(8, 1.5, numpy.float32))
    finish(phi)

    unknown = writer("unknown", "mystery")
    unknown.add_array("mystery.list", [1, 2, 3])
    packed = numpy.random.default_rng(3).integers(0, 256, (2, 144), dtype=numpy.uint8)
    unknown.add_tensor("anything", packed, raw_dtype=kinds.Q4_K)
    finish(unknown)

    whole = (OUTPUT / "llama.gguf").read_bytes()
    (OUTPUT / "cut-short.gguf").write_bytes(whole[: len(whole) // 2])


if __name__ == "__main__":
    main()
