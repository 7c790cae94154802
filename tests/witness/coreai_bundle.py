"""What Apple's own runtime for Linux says of a language-model bundle that this project wrote.

    python coreai_bundle.py BUNDLE GOLDEN [BUNDLE GOLDEN ...] [--tokens N]

BUNDLE is a folder with `metadata.json`, the asset that it names and `tokenizer/`; GOLDEN one with `ids.npy` and `logits.npy`,
which transformers made in float32. What Apple's package reads in the asset is compared with what is meant (coreai_text.py), folder and
functions with what Apple's apps read: names, shapes, element types, states. Then the asset runs as the apps run it: the table of embeddings is loaded once and given to each
call; a text goes in blocks that begin at multiples of their length; the mask is -40000 where a token does not look; the
caches are arrays that the asset's descriptor makes. Every `extend` function of the largest context computes all of the text, and a text is taken in
as the apps choose functions, `prompt_opt` first, then decoded token by token. Smaller contexts are looked at, but not run: this
runtime makes caches too small whose rows are aligned for a larger context (their strides reach beyond their memory), so they
are run as the largest of a bundle of their own. A bundle of the dynamic form runs its one function over the whole text, then a prompt and
token by token, with caches that grow; of models without a tokenizer, BUNDLE may be the asset alone. Needs Python 3.11 with `coreai-core` 1.0.0b3,
which ends the process on bad input: so each bundle has a child process, two at a time. One line for each bundle on stdout; the exit code is
0 if all is well, 1 if not, 2 where coreai-core is not installed.
"""

import json
import sys

import coreai_text
import coreai_witness

HIDDEN = -40000  # where a token does not look, as the apps have it


def check_folder(bundle):
    """The metadata that apps read; they refuse a bundle without these keys."""
    metadata = json.loads((bundle / "metadata.json").read_text())
    language = metadata["language"]
    assert metadata["metadata_version"] == "0.2" and metadata["kind"] == "llm", metadata
    assert isinstance(metadata["name"], str) and isinstance(language["tokenizer"], str), metadata
    assert set(language["states"].values()) <= {"kv_cache", "sliding_cache", "fixed"}, metadata
    asset = bundle / metadata["assets"]["main"]
    assert asset.suffix == ".aimodel" and asset.is_dir(), asset
    assert language.get("embedded_tokenizer", True) and (bundle / "tokenizer" / "tokenizer.json").is_file()
    assert (bundle / "tokenizer" / "tokenizer_config.json").is_file()
    return asset, language


def sizes(names):
    """The context and the number of tokens of each function, as apps read them out of its name."""
    found = {}
    for name in names:
        if name.startswith(("extend", "prompt_opt")):
            context, tokens = name.split("_")[-2:]
            found[name] = int(context), int(tokens)
    return found


def check_functions(model, language):
    import numpy

    names = set(model.function_names)
    assert "load_embeddings" in names, names
    found = sizes(names)
    contexts = sorted({context for context, _ in found.values()})
    queries = sorted({tokens for _, tokens in found.values()})
    assert contexts[-1] == language["max_context_length"], contexts
    for tokens in queries:
        function = model.load_function(f"gather_embeddings_{tokens}").desc
        assert set(function.input_names) == {"in_new_token_ids", "embedding_table"}, function.input_names
        ids = function.input_descriptor("in_new_token_ids")
        assert (list(ids.shape), numpy.dtype(ids.dtype)) == ([1, tokens], numpy.int32), ids
    for context in contexts:
        for kind in ("extend", "prompt_opt"):
            for tokens in queries:
                function = model.load_function(f"{kind}_{context}_{tokens}").desc
                inputs = {name: function.input_descriptor(name) for name in function.input_names}
                types = {name: (list(one.shape), numpy.dtype(one.dtype).name) for name, one in inputs.items()}
                hidden = types.pop("transformer_input")
                assert hidden[0][:3] == [1, tokens, 1] and hidden[1] == "float16", hidden
                assert types == {
                    "position_ids": ([1, tokens], "uint16"),
                    "in_step": ([1], "int32"),
                    "causal_mask": ([1, context, 1, tokens], "float16"),
                }, types
                assert set(function.state_names) == {"key_cache", "value_cache"}, function.state_names
                for name in function.state_names:
                    shape = list(function.state_descriptor(name).shape)
                    # Apps take the largest size for the context.
                    assert len(shape) == 5 and max(shape) == shape[4] == context, shape
                assert list(function.output_names) == ["out_logits"], function.output_names
    return contexts, queries


class Text:
    """A text in the caches of one context, computed as apps do it."""

    def __init__(self, functions, table, context, ids):
        from coreai.runtime import NDArray

        self.functions, self.table, self.context, self.ids = functions, table, context, ids
        function = next(f for name, f in functions.items() if name.startswith(f"extend_{context}_"))
        described = {name: function.desc.state_descriptor(name) for name in function.desc.state_names}
        self.states = {name: NDArray.from_descriptor(one) for name, one in described.items()}
        self.layers = described["key_cache"].shape[0]

    async def clean(self, tokens):
        """Fills new caches, whose memory holds anything and can only be written by functions: a layer's keys and
        values are numbers at all places after as many passes as there are layers up to it."""
        ids, self.ids = self.ids, [0] * self.context
        for _ in range(self.layers):
            for start in range(0, self.context, tokens):
                await self.block("prompt_opt", tokens, start)
        self.ids = ids

    async def block(self, kind, tokens, start):
        """Calls a function for the block from `start` on; gives its logits, (tokens, vocabulary)."""
        import numpy
        from coreai.runtime import NDArray

        ids = numpy.zeros((1, tokens), numpy.int32)
        part = self.ids[start : start + tokens]
        ids[0, : len(part)] = part
        gather = self.functions[f"gather_embeddings_{tokens}"]
        rows = await gather({"in_new_token_ids": NDArray(ids), "embedding_table": self.table})
        rows = rows.get("out_transformer_input", next(iter(rows.values())))
        columns, keys = numpy.arange(tokens)[None, :], numpy.arange(self.context)[:, None]
        mask = numpy.where((keys <= start + columns) & (columns < len(part)), 0, HIDDEN).astype(numpy.float16)
        inputs = {
            "transformer_input": rows,
            "position_ids": NDArray((start + columns).astype(numpy.uint16)),
            "in_step": NDArray(numpy.array([start], numpy.int32)),
            "causal_mask": NDArray(mask.reshape(1, self.context, 1, tokens)),
        }
        outputs = await self.functions[f"{kind}_{self.context}_{tokens}"](inputs, self.states)
        logits = outputs["out_logits"].numpy().astype(numpy.float32)
        return logits.reshape(tokens, -1) if kind == "extend" else None


async def whole(text, tokens):
    """All of a text through one `extend` function."""
    import numpy

    found = [await text.block("extend", tokens, start) for start in range(0, len(text.ids), tokens)]
    return numpy.concatenate(found)[: len(text.ids)]


async def as_apps(text, queries, prompt):
    """A prompt as apps take it in, then token by token; the logits of the prompt's end and of what follows."""
    import numpy

    found, position, ids = [], 0, text.ids
    while position < len(ids):
        known = prompt if position < prompt else position + 1
        left = known - position
        tokens = next((q for q in queries if q >= left), queries[-1])
        text.ids = ids[:known]
        start = position // tokens * tokens
        kind = "prompt_opt" if left > queries[-1] else "extend"
        logits = await text.block(kind, tokens, start)
        position = min(start + tokens, known)
        if position >= prompt:
            found.append(logits[position - 1 - start])
    return numpy.array(found)


def check_main(function, states):
    import numpy

    assert list(function.input_names) == ["input_ids", "position_ids"], function.input_names
    for name in function.input_names:
        one = function.input_descriptor(name)
        assert len(one.shape) == 2 and one.shape[0] == 1 and numpy.dtype(one.dtype) == numpy.int32, one
    assert set(function.state_names) == {"keyCache", "valueCache"} == set(states), function.state_names


async def dynamic(function, ids, blocks, capacity):
    """The logits of a text, in calls of so many tokens; caches begin with so many positions, and are doubled."""
    import numpy
    from coreai.runtime import NDArray

    shapes = {name: list(function.desc.state_descriptor(name).shape) for name in function.desc.state_names}
    held = {name: numpy.zeros((*shape[:3], capacity, shape[4]), numpy.float16) for name, shape in shapes.items()}
    found, done = [], 0
    for block in blocks:
        after = done + block
        while capacity < after:
            capacity *= 2
        for name, array in held.items():
            grown = numpy.zeros((*array.shape[:3], capacity, array.shape[4]), numpy.float16)
            grown[:, :, :, : array.shape[3]] = array
            held[name] = grown
        states = {name: NDArray(array) for name, array in held.items()}
        inputs = {
            "input_ids": NDArray(numpy.array([ids[done:after]], numpy.int32)),
            "position_ids": NDArray(numpy.arange(after, dtype=numpy.int32)[None]),
        }
        outputs = await function(inputs, states)
        held = {name: numpy.array(array.numpy()) for name, array in states.items()}
        logits = next(iter(outputs.values())).numpy().astype(numpy.float32)
        assert logits.shape[:2] == (1, block), logits.shape
        found.append(logits[0])
        done = after
    return numpy.concatenate(found)


async def run(bundle, golden, count):
    import numpy
    from coreai.authoring import AIModelAsset

    alone = bundle.suffix == ".aimodel"
    asset, language = (bundle, None) if alone else check_folder(bundle)
    ids = numpy.load(golden / "ids.npy").reshape(-1)[:count]
    expected = numpy.load(golden / "logits.npy")
    expected = expected.reshape(-1, expected.shape[-1])[: len(ids)]
    assert alone or expected.shape[1] == language["vocab_size"], language
    loaded = AIModelAsset.load(asset)
    operations = coreai_text.check(asset, loaded.program)
    compared = []

    def compare(found, rows):
        assert found.shape == rows.shape, (found.shape, rows.shape)
        assert numpy.isfinite(found).all(), "there are logits that are no numbers"
        compared.append(coreai_witness.compare(found, rows))

    async with coreai_witness.executable(loaded) as model:
        if "load_embeddings" not in model.function_names:
            function = model.load_function("main")
            check_main(function.desc, ["keyCache", "valueCache"] if alone else language["states"])
            for blocks, capacity in [([len(ids)], 256), ([len(ids) // 2] + [1] * 8, 16), ([5, 1, 7], 8)]:
                total = sum(blocks)
                compare(await dynamic(function, ids, blocks, capacity), expected[:total])
            return tell(bundle, golden, (operations, "the dynamic form", len(ids)), compared)
        contexts, queries = check_functions(model, language)
        functions = {name: model.load_function(name) for name in model.function_names}
        table = (await functions["load_embeddings"]({}))["embedding_table"]
        context = contexts[-1]
        fitting = ids[:context]
        text = Text(functions, table, context, fitting)
        await text.clean(queries[-1])
        for tokens in queries:
            compare(await whole(text, tokens), expected[: len(fitting)])
        prompt = max(1, len(fitting) - 8)
        found = await as_apps(text, queries, prompt)
        compare(found, expected[prompt - 1 : len(fitting)])
    return tell(bundle, golden, (operations, f"contexts={contexts} queries={queries}", len(fitting)), compared)


def tell(bundle, golden, what, compared):
    import numpy

    operations, form, tokens = what
    errors = numpy.concatenate([errors for errors, _, _ in compared])
    clear, equal = sum(clear for _, clear, _ in compared), sum(equal for _, _, equal in compared)
    good, words = coreai_witness.judge(errors, golden)
    good = good and 0 < clear == equal
    print(f"{'ok' if good else 'WRONG'} {bundle} {form} {coreai_text.tell(operations)}, tokens={tokens}: {words}; "
          f"best tokens equal {equal} of {clear} that are clear")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(coreai_witness.main(__file__, run, "BUNDLE", 80))
