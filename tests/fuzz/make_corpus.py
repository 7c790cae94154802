"""Writes the inputs of the corpus that coremltools 9 makes: small packages with many operations.

Usage: python make_corpus.py HARNESS FOLDER. HARNESS is the program of this crate, which packs the
packages; FOLDER gets models and packages. Identifiers are random, so a run never repeats another.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

import coremltools as ct
import coremltools.optimize as cto
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types

RANDOM = np.random.default_rng(1)
F16 = types.fp16


def weight(*shape):
    return RANDOM.standard_normal(shape).astype(np.float16)


@mb.program(input_specs=[mb.TensorSpec((1, 4, 6, 6))], opset_version=ct.target.iOS15)
def convolution(x):
    y = mb.conv(x=x, weight=weight(8, 4, 3, 3).astype(np.float32), pad_type="same")
    y = mb.instance_norm(x=y, gamma=np.ones(8, np.float32), beta=np.zeros(8, np.float32))
    y = mb.max_pool(x=mb.relu(x=y), kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid")
    y = mb.reshape(x=mb.pad(x=y, pad=[0, 0, 0, 0, 1, 1, 0, 1], mode="constant"), shape=[1, -1])
    return mb.softmax(x=y, axis=-1)


@mb.program(
    input_specs=[mb.TensorSpec((2, 8), F16), mb.TensorSpec((3,), types.int32)],
    opset_version=ct.target.iOS17,
)
def shapes(x, i):
    x = mb.linear(x=x, weight=weight(8, 8), bias=weight(8))
    x = mb.add(x=x, y=mb.gather(x=x, indices=np.array([1, 0], np.int32), axis=0))
    a, b = mb.split(x=x, num_splits=2, axis=1)
    y = mb.concat(values=[mb.transpose(x=a, perm=[1, 0]), mb.transpose(x=b, perm=[1, 0])], axis=0)
    y = mb.matmul(x=y, y=mb.expand_dims(x=y, axes=[0]), transpose_y=True)
    y = mb.slice_by_index(x=y, begin=[0, 1, 0], end=[1, -1, 8], end_mask=[True, False, False])
    y = mb.layer_norm(x=mb.squeeze(x=y, axes=[0]), axes=[-1], gamma=weight(8), beta=weight(8))
    other = mb.tile(x=mb.exp(x=np.float16([1])), reps=[8])
    y = mb.select(cond=mb.greater(x=y, y=np.float16(0)), a=y, b=other)
    y = mb.reduce_mean(x=y, axes=[0], keep_dims=True)
    y = mb.clip(x=y, alpha=np.float16(-1), beta=np.float16(6))
    values, indices = mb.topk(x=y, k=3, axis=1)
    g = mb.gather(x=mb.squeeze(x=values, axes=[0]), indices=i, axis=0, validate_indices=False)
    n = mb.shape(x=g)
    n = mb.add(x=mb.reduce_argmax(x=indices, axis=1, keep_dims=False), y=n)
    return mb.stack(values=[g, mb.cumsum(x=g, axis=0)], axis=1), n


@mb.program(
    input_specs=[mb.TensorSpec((1, 4), F16), mb.TensorSpec((1,), types.int32)],
    opset_version=ct.target.iOS17,
)
def blocks(x, n):
    def then():
        return mb.cond(
            pred=mb.squeeze(x=mb.less(x=n, y=np.int32([9]))),
            _true_fn=lambda: mb.sin(x=x),
            _false_fn=lambda: mb.mul(x=x, y=np.float16(2)),
        )

    less = mb.squeeze(x=mb.less(x=n, y=np.int32([4])))
    y = mb.cond(pred=less, _true_fn=then, _false_fn=lambda: mb.cos(x=x))
    y, n = mb.while_loop(
        _cond=lambda y, n: mb.squeeze(x=mb.less(x=n, y=np.int32([4]))),
        _body=lambda y, n: (mb.add(x=y, y=np.float16(1)), mb.add(x=n, y=np.int32([1]))),
        loop_vars=(y, n),
    )
    return y, n


@mb.program(
    input_specs=[
        mb.TensorSpec((1, 2, 1, 8), F16),
        mb.TensorSpec((1,), types.int32),
        mb.StateTensorSpec((1, 2, 16, 8), F16),
    ],
    opset_version=ct.target.iOS18,
)
def attention(q, position, cache):
    k = mb.read_state(input=cache)
    end = mb.add(x=position, y=np.int32([1]))
    begin = mb.concat(values=[np.int32([0, 0]), position, np.int32([0])], axis=0)
    end = mb.concat(values=[np.int32([1, 2]), end, np.int32([8])], axis=0)
    k = mb.slice_update(x=k, update=q, begin=begin, end=end)
    k = mb.coreml_update_state(state=cache, value=k)
    y = mb.scaled_dot_product_attention(query=q, key=k, value=k)
    y = mb.silu(x=mb.linear(x=mb.reshape(x=y, shape=[1, 16]), weight=weight(32, 16)))
    return mb.linear(x=y, weight=weight(64, 32))


def save(model, folder, name):
    path = folder / f"{name}.mlpackage"
    model.save(str(path))
    return path


def convert(program, target, **options):
    options.setdefault("compute_precision", ct.precision.FLOAT16)
    options.update(minimum_deployment_target=target, convert_to="mlprogram", skip_model_load=True)
    return ct.convert(program, **options)


def palettize(**options):
    config = cto.coreml.OpPalettizerConfig(mode="uniform", weight_threshold=0, **options)
    return cto.coreml.palettize_weights, config


def quantize(**options):
    config = cto.coreml.OpLinearQuantizerConfig(weight_threshold=0, **options)
    return cto.coreml.linear_quantize_weights, config


def prune():
    config = cto.coreml.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=0)
    return cto.coreml.prune_weights, config


def main():
    harness, output = sys.argv[1], pathlib.Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        full = ct.precision.FLOAT32
        attended = convert(attention, ct.target.iOS18)
        shaped = convert(shapes, ct.target.iOS17)
        models = {
            "convolution": convert(convolution, ct.target.iOS15, compute_precision=full),
            "shapes": shaped,
            "blocks": convert(blocks, ct.target.iOS17),
            "attention": attended,
        }
        for name, model, (squeeze, config) in [
            ("palette", attended, palettize(nbits=4)),
            ("grouped", attended, palettize(nbits=2, granularity="per_grouped_channel", group_size=16)),
            ("blockwise", attended, quantize(dtype="int4", granularity="per_block", block_size=8)),
            ("sparse", attended, prune()),
            ("palette16", shaped, palettize(nbits=2)),
            ("affine16", shaped, quantize(mode="linear")),
            ("sparse16", shaped, prune()),
        ]:
            models[name] = squeeze(model, cto.coreml.OptimizationConfig(global_config=config))
        paths = [save(model, folder, name) for name, model in models.items()]
        both = ct.utils.MultiFunctionDescriptor()
        for name in ("infer", "prefill"):
            both.add_function(str(folder / "attention.mlpackage"), "main", name)
        both.default_function_name = "infer"
        paths.append(folder / "functions.mlpackage")
        ct.utils.save_multifunction(both, str(paths[-1]))
        for path in paths:
            name, data = path.stem, path / "Data" / "com.apple.CoreML"
            shutil.copy(data / "model.mlmodel", output / "model" / f"{name}.mlmodel")
            if name in ("palette", "functions", "sparse16", "blockwise", "blocks"):
                pack = [harness, "pack", "--input", path, "--output", output / "package" / name]
                subprocess.run(pack, check=True)
            if name in ("palette", "grouped", "blockwise", "sparse", "affine16"):
                shutil.copy(data / "weights" / "weight.bin", output / "blob" / f"{name}.bin")


if __name__ == "__main__":
    main()
