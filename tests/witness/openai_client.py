"""What OpenAI's own Python client makes of `anemll serve`.

    python openai_client.py --output FOLDER -- PROGRAM [ARGUMENT ...]

PROGRAM is `anemll`, with arguments that stand before its command (`--plugin FILE`). Two small models of tests/models are
converted into FOLDER and served at 127.0.0.1, and asked with the package `openai` as its users would: conversations, streams,
tools, probabilities, stop texts, seeds, penalties, usage, vectors, every kind of error, and clients that leave. One line for
each group on stdout; the exit code is 0 if all is well. It needs `openai` and `numpy`.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import pathlib
import shutil
import subprocess
import sys
import time
import urllib.request

import numpy
import openai

MODELS = pathlib.Path(__file__).resolve().parents[1] / "models"
KEY = "witness-key-0123456789"
PROMPT = "The king said to the"
ASKED = [{"role": "user", "content": PROMPT}]
# A template that knows of tools: each by its name, then the messages. The text in front of which a completion puts the same
# special token is what it makes of TOOL_TALK.
TEMPLATE = (
    "{{ bos_token }}{% for tool in tools or [] %}{{ tool.function.name }}: {{ tool.function.description }}\n{% endfor %}"
    "{% for message in messages %}{{ message.role }}: {{ message.content }}"
    "{% for call in message.tool_calls or [] %}{{ call.function.name }}({{ call.function.arguments.city }}){% endfor %}{{ '\n' }}"
    "{% endfor %}assistant:"
)
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "tells the weather", "parameters": {"type": "object"}},
}
TEMPLATE_TEXT = (
    "weather: tells the weather\nuser: Rome?\nassistant: weather(Rome)\ntool: sunny and warm\nuser: And now?\nassistant:"
)
TOOL_TALK = [
    {"role": "user", "content": "Rome?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "1", "content": "sunny and warm"},
    {"role": "user", "content": "And now?"},
]


def check(so: bool, what: object) -> None:
    """Ends the program where something is not so."""
    if not so:
        raise SystemExit(f"error: {what}")


@contextlib.contextmanager
def serving(program: list[str], conversion: pathlib.Path, *arguments: str):
    """A server at a free port, with a client of it."""
    command = [*program, "serve", str(conversion), "--port", "0", *arguments]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        address = None
        for line in child.stderr:
            if line.startswith("serving "):
                address = line.split("http://")[1].split("/")[0]
                break
        check(address is not None, f"{command} does not begin to serve")
        base = f"http://{address}/v1"
        with openai.OpenAI(base_url=base, api_key=KEY, max_retries=0, timeout=60) as client:
            yield client
    finally:
        child.kill()
        child.wait()


def refused(kind: type, status: int, code: str, ask) -> openai.APIStatusError:
    """The error of a request that must fail in this way."""
    try:
        ask()
    except openai.APIStatusError as error:
        seen = (type(error), error.status_code, error.code)
        check(seen == (kind, status, code), f"{seen} in place of {(kind, status, code)}: {error}")
        return error
    raise SystemExit(f"error: a request was answered that must give {status} {code}")


def metric(client: openai.OpenAI, name: str) -> float:
    """A number that the server tells Prometheus."""
    address = str(client.base_url).replace("/v1/", "/metrics")
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def eventually(what: str, so) -> None:
    """Waits until something is so."""
    for _ in range(400):
        if so():
            return
        time.sleep(0.025)
    raise SystemExit(f"error: in ten seconds it does not come: {what}")


def conversations(client: openai.OpenAI) -> None:
    listed = client.models.list().data
    check([model.id for model in listed] == ["tiny"], f"models are {listed}")
    check(client.models.retrieve("tiny").id == "tiny", "the model is not retrieved by its name")

    def ask(**settings):
        return client.chat.completions.create(model="tiny", messages=ASKED, max_tokens=20, temperature=0, **settings)

    whole = ask()
    choice, usage = whole.choices[0], whole.usage
    check(whole.object == "chat.completion" and choice.message.role == "assistant", whole)
    check(usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage)
    check(choice.finish_reason == ("length" if usage.completion_tokens == 20 else "stop"), whole)
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    check(text == choice.message.content, f"streamed {text!r}, whole {choice.message.content!r}")
    check(chunks[-1].usage.total_tokens == usage.total_tokens, chunks[-1])
    check(chunks[-2].choices[0].finish_reason == choice.finish_reason, chunks[-2])
    check(ask(seed=7).choices[0].message.content == choice.message.content, "a seed changes what is not drawn")

    def drawn(seed: int) -> str:
        answer = client.chat.completions.create(
            model="tiny", messages=ASKED, max_tokens=20, temperature=1.5, top_p=0.99, seed=seed
        )
        return answer.choices[0].message.content

    check(drawn(1) == drawn(1) and len({drawn(seed) for seed in range(4)}) > 1, "seeds do not decide what is drawn")
    told = ask(logprobs=True, top_logprobs=3).choices[0].logprobs.content
    check("".join(one.token for one in told) == choice.message.content, told)
    for one in told:
        likely = [other.logprob for other in one.top_logprobs]
        check(len(likely) == 3 and likely == sorted(likely, reverse=True) and likely[0] == one.logprob <= 0, one)
        check(one.bytes is None or bytes(one.bytes).decode() == one.token, one)
    print("conversations: whole, streamed, drawn, with probabilities")


def texts(client: openai.OpenAI) -> None:
    def ask(**settings):
        settings = {"max_tokens": 20, "temperature": 0, **settings}
        return client.completions.create(model="tiny", prompt=PROMPT, **settings)

    plain = ask().choices[0].text
    words = plain.split()
    stopped = ask(stop=[f"{words[0]} {words[1]}", "never to be found"]).choices[0]
    check(stopped.text == plain.split(f"{words[0]} {words[1]}")[0] and stopped.finish_reason == "stop", stopped)
    check("".join(chunk.choices[0].text for chunk in ask(stream=True)) == plain, "a stream has another text")
    told = ask(logprobs=2).choices[0].logprobs
    check("".join(told.tokens) == plain and len(told.token_logprobs) == len(told.tokens), told)
    check(told.text_offset[:2] == [0, len(told.tokens[0])], told)
    long = ask(max_tokens=50).choices[0].text
    for penalty in [{"frequency_penalty": 2.0}, {"presence_penalty": 2.0}, {"extra_body": {"repetition_penalty": 9.0}}]:
        check(ask(max_tokens=50, **penalty).choices[0].text != long, f"{penalty} changes nothing")
    again = ask().usage
    check(again.prompt_tokens_details.cached_tokens == again.prompt_tokens - 1, again)
    print("texts: stop, stream, probabilities, penalties, a cache that is used again")


def tools(client: openai.OpenAI) -> None:
    """What a template makes of tools, beside the same text written by hand."""
    answer = client.chat.completions.create(
        model="tiny", messages=TOOL_TALK, tools=[WEATHER], tool_choice="auto", max_tokens=8, temperature=0
    )
    by_hand = client.completions.create(model="tiny", prompt=TEMPLATE_TEXT, max_tokens=8, temperature=0)
    check(answer.usage.prompt_tokens == by_hand.usage.prompt_tokens, (answer.usage, by_hand.usage))
    check(answer.choices[0].message.content == by_hand.choices[0].text, (answer, by_hand))
    without = client.chat.completions.create(
        model="tiny", messages=TOOL_TALK, tools=[WEATHER], tool_choice="none", max_tokens=1
    )
    check(without.usage.prompt_tokens < answer.usage.prompt_tokens, "tools are told where none is to be called")
    print("tools: passed through the template")


def errors(client: openai.OpenAI) -> None:
    def ask(**settings):
        return client.with_options(api_key=settings.pop("key", KEY)).completions.create(
            **{"model": "tiny", "prompt": PROMPT, "max_tokens": 1, **settings}
        )

    refused(openai.AuthenticationError, 401, "A1015", lambda: ask(key="another-key-0123456789"))
    error = refused(openai.NotFoundError, 404, "A1016", lambda: ask(model="gpt-4"))
    check(error.param == "model" and error.type == "invalid_request_error", error)
    refused(openai.NotFoundError, 404, "A1016", lambda: client.models.retrieve("gpt-4"))
    refused(openai.BadRequestError, 400, "A1011", lambda: ask(n=2))
    refused(openai.BadRequestError, 400, "A0903", lambda: ask(prompt="king " * 5000))
    refused(openai.APIStatusError, 413, "A1012", lambda: ask(prompt="x" * (17 << 20)))
    refused(openai.BadRequestError, 400, "A0712", lambda: client.embeddings.create(model="tiny", input="a"))
    check(ask().usage.completion_tokens <= 1, "the server does not go on after errors")
    print("errors: 400, 401, 404, 413")


def leaving(client: openai.OpenAI) -> None:
    """Clients that leave make room; those for whom there is none are told so."""

    def begun():
        return client.completions.create(
            model="tiny", prompt=PROMPT, max_tokens=2000, stream=True, temperature=2.0, seed=5,
            extra_body={"repetition_penalty": 1.2},
        )

    def short():
        return client.completions.create(model="tiny", prompt=PROMPT, max_tokens=1)

    streams = [begun() for _ in range(3)]
    for stream in streams[:2]:
        next(iter(stream))
    error = refused(openai.RateLimitError, 429, "A1017", short)
    check(int(error.response.headers["retry-after"]) >= 1, error.response.headers)
    for stream in streams:
        stream.close()
    eventually("slots are free", lambda: metric(client, "anemll_requests_running") == 0)
    check(metric(client, "anemll_requests_waiting") == 0, "one that left waits still")
    check(metric(client, "anemll_answers_cancelled_total") >= 2, "two answers were cut")
    check(short().usage.completion_tokens <= 1, "a slot does not answer after a client that left")
    print("clients that leave: 429 while they are there, and room behind them")


async def together(client: openai.OpenAI) -> None:
    """Many at once: each gets the answer that it gets alone."""
    alone = [f"The {word} was" for word in ("king", "queen", "garden", "sea")]
    settings = {"model": "tiny", "max_tokens": 8, "temperature": 0}
    expected = {prompt: client.completions.create(prompt=prompt, **settings).choices[0].text for prompt in alone}
    async with openai.AsyncOpenAI(base_url=client.base_url, api_key=KEY, max_retries=20) as crowd:
        asked = alone * 6
        answers = await asyncio.gather(*(crowd.completions.create(prompt=prompt, **settings) for prompt in asked))
    for prompt, answer in zip(asked, answers):
        check(answer.choices[0].text == expected[prompt], (prompt, answer))
    print(f"{len(asked)} requests at once: each as alone")


def vectors(client: openai.OpenAI) -> None:
    def ask(**settings):
        return client.embeddings.create(model="vectors", **settings)

    texts = ["a text", "another, longer text"]
    plain = ask(input=texts, encoding_format="float")
    check([one.index for one in plain.data] == [0, 1] and plain.usage.total_tokens > 2, plain.usage)
    rows = numpy.array([one.embedding for one in plain.data], dtype=numpy.float32)
    check(numpy.allclose(numpy.linalg.norm(rows, axis=1), 1, atol=1e-3), "vectors have not the length 1")
    # What the client asks for without a word is base64, which it decodes.
    usual = numpy.array([one.embedding for one in ask(input=texts).data], dtype=numpy.float32)
    check(numpy.array_equal(usual, rows), "vectors in base64 are others")
    packed = ask(input=texts[0], encoding_format="base64").data[0].embedding
    packed = packed if not isinstance(packed, str) else numpy.frombuffer(base64.b64decode(packed), dtype="<f4")
    check(numpy.array_equal(numpy.array(packed, dtype=numpy.float32), rows[0]), "base64 says another vector")
    cut = numpy.array(ask(input=texts[0], dimensions=4).data[0].embedding)
    check(numpy.allclose(cut, rows[0, :4] / numpy.linalg.norm(rows[0, :4]), atol=1e-5), "a vector is cut otherwise")
    refused(openai.BadRequestError, 400, "A1011", lambda: ask(input="a", dimensions=100_000))
    asked = [{"role": "user", "content": "a"}]
    chat = lambda: client.chat.completions.create(model="vectors", messages=asked)  # noqa: E731
    refused(openai.BadRequestError, 400, "A0712", chat)
    print("vectors: as numbers and in base64, whole and cut")


def embedder(folder: pathlib.Path) -> pathlib.Path:
    """A model that sentence-transformers would take for one that gives vectors."""
    shutil.copytree(MODELS / "tiny-qwen3", folder, ignore=shutil.ignore_patterns("golden"))
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_lasttoken": True}))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("program", nargs="+")
    arguments = parser.parse_args()
    started, program, folder = time.monotonic(), arguments.program, arguments.output
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    def convert(model: pathlib.Path, name: str, context: str) -> pathlib.Path:
        command = [*program, "--quiet", "convert", str(model), "-o", str(folder / name)]
        subprocess.run([*command, "--context", context, "--batch", "8", "--lut", "none"], check=True)
        return folder / name

    (folder / "keys").write_text(f"{KEY}\n")
    conversion = convert(MODELS / "tiny-llama", "tiny", "2048")
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    for file in conversion.glob("*.json"):
        shutil.copy(file, tokenizer)
    (tokenizer / "chat_template.jinja").write_text(TEMPLATE)
    texts_of = ["--name", "tiny", "--api-key-file", str(folder / "keys"), "--tokenizer", str(tokenizer)]
    with serving(program, conversion, *texts_of) as client:
        conversations(client)
        texts(client)
        tools(client)
        errors(client)
    with serving(program, conversion, *texts_of, "--slots", "2", "--queue", "1") as client:
        leaving(client)
        asyncio.run(together(client))
    with serving(program, convert(embedder(folder / "embedder"), "vectors", "32"), "--name", "vectors") as client:
        vectors(client)
    print(f"openai {openai.__version__}: all is well, in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
