"""Palettization side by side with coremltools: weights per second and core, in one run on one machine.

    python bench_palettize.py --ours PROGRAM [--runs N] [--cases TEXT]

PROGRAM is the example `palettize_speed` of crates/palettize, built with optimisation; `cargo xtask bench palettize`
builds it and calls this script. For each case a matrix is made, with heavy tails and scales of its own for rows and
columns. Both get it as fp16:
  * ours: from values to packed indices and tables, seconds of the thread;
  * coremltools: `palettize_weights` with k-means on an ML program of one linear operation, seconds of the process, which
    has one thread and one worker. It clusters groups of at least 10 000 fp16 values exactly, smaller ones with
    scikit-learn.
Runs of the two alternate, and medians count, so that other programs on the machine disturb both alike. The last column
is our mean squared error beside theirs: at most 1, up to the rounding of tables.

It needs `pip install coremltools==9.0 scikit-learn==1.5.1`, the newest scikit-learn that coremltools 9.0 accepts.
"""

import argparse
import json
import logging
import os
import pathlib
import statistics
import subprocess
import tempfile
import time
import warnings

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy  # noqa: E402

logging.disable(logging.WARNING)
warnings.filterwarnings("ignore")
import coremltools  # noqa: E402
from coremltools.converters.mil import Builder  # noqa: E402
from coremltools.converters.mil.mil import types  # noqa: E402
from coremltools.optimize import coreml as optimize  # noqa: E402

# Rows, columns, rows of a group (None: all), and whether values come from bfloat16. Of 4096 rows in groups, an eighth
# is enough: each group is clustered by itself.
CASES = [
    (576, 1536, 8, True),
    (576, 1536, 8, False),
    (1536, 576, 8, True),
    (1536, 576, 8, False),
    (512, 4096, 8, True),
    (512, 4096, 8, False),
    (576, 1536, None, True),
    (4096, 4096, None, True),
    (4096, 4096, None, False),
]


def matrix(rows: int, columns: int, brain: bool) -> numpy.ndarray:
    """Student's t with six degrees of freedom, as fp16; with `brain` the values are bfloat16, too."""
    random = numpy.random.default_rng(rows * columns)
    scales = numpy.exp(0.3 * random.standard_normal((rows, 1))) * numpy.exp(0.3 * random.standard_normal((1, columns)))
    values = (0.05 * scales * random.standard_t(6, (rows, columns))).astype(numpy.float32)
    if brain:
        bits = values.view(numpy.uint32)
        values = ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(numpy.uint32).view(numpy.float32)
    return values.astype(numpy.float16)


def program(weight: numpy.ndarray):
    """A model of one linear operation with this weight."""
    shape = (1, weight.shape[1])

    @Builder.program(
        input_specs=[Builder.TensorSpec(shape=shape, dtype=types.fp16)], opset_version=coremltools.target.iOS18
    )
    def one(x):
        return Builder.linear(x=x, weight=weight)

    return coremltools.convert(
        one,
        minimum_deployment_target=coremltools.target.iOS18,
        compute_precision=coremltools.precision.FLOAT16,
        skip_model_load=True,
    )


def by_coremltools(model, weight: numpy.ndarray, bits: int, group) -> tuple:
    """Seconds, and the mean squared error."""
    grouping = (
        {"granularity": "per_tensor"} if group is None else {"granularity": "per_grouped_channel", "group_size": group}
    )
    config = optimize.OptimizationConfig(
        global_config=optimize.OpPalettizerConfig(mode="kmeans", nbits=bits, num_kmeans_workers=1, **grouping)
    )
    start = time.process_time()
    palettized = optimize.palettize_weights(model, config)
    seconds = time.process_time() - start
    [operation] = [
        operation
        for operation in palettized._mil_program.functions["main"].operations
        if operation.op_type == "constexpr_lut_to_dense"
    ]
    decoded = operation.outputs[0].op.materialized_val_inference()
    error = (weight.astype(numpy.float64) - decoded.astype(numpy.float64)) ** 2
    return seconds, float(error.mean())


def by_ours(path: str, file: pathlib.Path, columns: int, group: int, bits: int) -> tuple:
    """The median of some runs, and the mean squared error."""
    output = subprocess.run(
        [path, str(file), str(columns), str(group), str(bits)], check=True, capture_output=True, text=True
    ).stdout
    answer = json.loads(output)
    return statistics.median(answer["seconds"]), answer["mean_squared"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True, metavar="PROGRAM")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs of each (3)")
    parser.add_argument("--cases", default="", metavar="TEXT", help="only cases with this in their names")
    arguments = parser.parse_args()
    print("| matrix | group | values | bits | ours, M/s | coremltools, M/s | ratio | error, ours / theirs |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "matrix.f16"
        for rows, columns, group, brain in CASES:
            labels = [f"{rows} x {columns}", "tensor" if group is None else str(group), "bf16" if brain else "fp16"]
            if arguments.cases not in " ".join(labels):
                continue
            weight = matrix(rows, columns, brain)
            weight.tofile(file)
            model = program(weight)
            for bits in (4, 6):
                ours, theirs = [], []
                for _ in range(max(1, arguments.runs)):
                    ours.append(by_ours(arguments.ours, file, columns, group or rows, bits))
                    theirs.append(by_coremltools(model, weight, bits, group))
                our_seconds, their_seconds = (
                    statistics.median(seconds for seconds, _ in runs) for runs in (ours, theirs)
                )
                speeds = [weight.size / seconds / 1e6 for seconds in (our_seconds, their_seconds)]
                row = labels + [
                    str(bits),
                    f"{speeds[0]:.1f}",
                    f"{speeds[1]:.2f}",
                    f"{their_seconds / our_seconds:.0f}",
                    f"{ours[0][1] / theirs[0][1]:.4f}",
                ]
                print("| " + " | ".join(row) + " |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
