"""Writing JSON files, apart from reference_logits so that scripts without torch can use it."""

import json
import pathlib


def write_json(path: pathlib.Path, value: object) -> None:
    """Write `value` as readable JSON with a final newline."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
