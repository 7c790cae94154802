"""Write the chat goldens: what transformers' apply_chat_template makes of conversations.

    python make_chat_goldens.py            # write chat/*.json from chat/*.jinja
    python make_chat_goldens.py --check    # compare with the files that exist

Each `chat/<name>.json` holds the special tokens, and for every case the messages, the extra variables, and either
the rendered `text` (with add_generation_prompt) or `refused`, the message of raise_exception.
"""

import argparse
import json
import pathlib
import sys

import jinja2
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from reference_json import write_json

FOLDER = pathlib.Path(__file__).parent / "chat"
TOKENS = {"bos_token": "<|begin|>", "eos_token": "<|end|>"}


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


CONVERSATIONS = {
    "one question": [message("user", "  Who wrote <Faust>? \n")],
    "system": [message("system", "Be brief.\nBe kind."), message("user", "Hello")],
    "several turns": [
        message("user", "1 + 1?"),
        message("assistant", " It's \"2\". "),
        message("user", "Naïve ünïcode 日本 🙂"),
        message("assistant", "<think>\nHm, {{ a brace }} </think>\n\nYes."),
        message("user", "Thanks"),
    ],
    "system and turns": [
        message("system", "You are terse."),
        message("user", "a"),
        message("assistant", "b"),
        message("user", "c"),
    ],
    "two users in a row": [message("user", "a"), message("user", "b")],
    "empty": [message("user", "")],
}
VARIABLES = [{}, {"enable_thinking": False}]


def render(template: str, messages: list[dict[str, str]], variables: dict[str, bool]) -> dict[str, str]:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), **TOKENS)
    try:
        text = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=True, **variables
        )
    except jinja2.exceptions.TemplateError as refusal:
        return {"refused": str(refusal)}
    return {"text": text}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file would change")
    arguments = parser.parse_args()
    different = 0
    for source in sorted(FOLDER.glob("*.jinja")):
        template = source.read_text(encoding="utf-8")
        cases = [
            {"name": name, "messages": messages, "variables": variables, **render(template, messages, variables)}
            for name, messages in CONVERSATIONS.items()
            for variables in (VARIABLES if "enable_thinking" in template else VARIABLES[:1])
        ]
        golden = {"tokens": TOKENS, "cases": cases}
        path = source.with_suffix(".json")
        if not arguments.check:
            write_json(path, golden)
        elif json.loads(path.read_text(encoding="utf-8")) != golden:
            print(f"{path.name} would change")
            different += 1
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
