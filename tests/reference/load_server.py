"""Put load on `anemll serve`, of a kind that takes too long for the tests, and tell what became of it and of its memory.

    python load_server.py memory --conversion OUT -- PROGRAM [ARGUMENT ...]
    python load_server.py connections --conversion OUT -- PROGRAM [ARGUMENT ...]

PROGRAM is `anemll`, with arguments that stand before its command; it serves OUT at 127.0.0.1. `memory` sends `--requests`
requests of all kinds (answered, streamed, refused, cancelled, too large), eight at a time, and prints the server's memory after
every tenth of them. `connections` opens `--connections` at once: a part asks, a part says nothing or half a head, a part reads
nothing of a long answer; and prints what each part was told. Linux alone. Not for CI: it measures the machine.
"""

import argparse
import asyncio
import collections
import json
import pathlib
import subprocess
import time

ASKED = "/v1/completions"
PATIENCE = 90.0  # seconds for an answer


class Server:
    """A server of a conversion, at a free port."""

    def __init__(self, program: list[str], conversion: str, *arguments: str) -> None:
        command = [*program, "serve", conversion, "--port", "0", *arguments]
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        line = next((line for line in self.child.stderr if line.startswith("serving ")), None)
        if line is None:
            raise SystemExit(f"error: {command} does not begin to serve")
        self.port = int(line.split("http://")[1].split("/")[0].rsplit(":", 1)[1])

    def memory(self) -> str:
        """What the process has, in MB, and how many files are open."""
        process = pathlib.Path("/proc") / str(self.child.pid)
        lines = (process / "smaps_rollup").read_text().splitlines()[1:]
        sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
        files = len(list((process / "fd").iterdir()))
        return f"RSS {sizes['Rss']:.1f} MB, of it anonymous {sizes['Anonymous']:.1f} MB; {files} files"

    def end(self) -> int:
        """The exit code after a gentle end."""
        self.child.terminate()
        return self.child.wait(timeout=30)


def request(body: bytes, method: str = "POST", path: str = ASKED) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def asked(**settings: object) -> bytes:
    return request(json.dumps({"prompt": "The king said to the", "max_tokens": 4, **settings}).encode())


async def told(port: int, sent: bytes, leave: int | None = None) -> str:
    """The status of an answer that is read to its end, or to its byte `leave`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        await writer.drain()
        if leave is not None:
            await reader.read(leave)
            return "left"
        whole = await asyncio.wait_for(reader.read(), PATIENCE)
        return whole.split(b" ", 2)[1].decode() if whole.startswith(b"HTTP/") else "closed"
    except ConnectionError:
        return "broken"
    finally:
        writer.close()


# What is sent in turn: what it is, its bytes, and of how many bytes of the answer its client leaves.
KINDS = [
    ("answered", asked(), None),
    ("streamed", asked(stream=True, logprobs=2, temperature=1.5), None),
    ("cancelled", asked(stream=True, max_tokens=200), 300),
    ("answered", asked(prompt="The queen of the garden " * 6, stop=["and"]), None),
    ("refused", asked(n=2), None),
    ("refused", request(b"{"), None),
    ("refused", request(b"", "GET", "/nothing"), None),
    ("conversation", request(
        json.dumps({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}).encode(),
        path="/v1/chat/completions",
    ), None),
    ("too long", asked(prompt="king " * 5000), None),
    ("left before the answer", asked(max_tokens=200), 0),
]


async def memory(server: Server, requests: int) -> None:
    counts: collections.Counter = collections.Counter()
    numbers = iter(range(requests))
    began = time.monotonic()
    large = request(b"x" * (17 << 20))

    async def client() -> None:
        for number in numbers:
            kind, sent, leave = KINDS[number % len(KINDS)]
            if number % 500 == 499:
                kind, sent, leave = "too large", large, None
            counts[f"{kind}: {await told(server.port, sent, leave)}"] += 1
            if (number + 1) % (requests // 10) == 0:
                print(f"{number + 1:6} requests, {time.monotonic() - began:4.0f} s: {server.memory()}", flush=True)

    print(f"     0 requests,    0 s: {server.memory()}", flush=True)
    await asyncio.gather(*(client() for _ in range(8)))
    for what, count in sorted(counts.items()):
        print(f"{count:6} {what}")


async def connections(server: Server, count: int) -> None:
    quiet = [asyncio.create_task(told(server.port, b"")) for _ in range(count // 10)]
    half = [asyncio.create_task(told(server.port, b"POST / HTTP/1.1\r\nHost: loc")) for _ in range(count // 5)]
    asking = count - count // 10 - 2 * (count // 5)

    async def ask(when: str, many: int) -> None:
        began = time.monotonic()
        answers = await asyncio.gather(*(told(server.port, asked()) for _ in range(many)))
        print(f"those that ask {when}: {dict(collections.Counter(answers))}, in {time.monotonic() - began:.1f} s")

    await ask("beside them", asking // 2)
    deaf, long = [], asked(stream=True, max_tokens=2000, logprobs=5, temperature=2.0)
    for _ in range(count // 5):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        reader._transport.pause_reading()
        writer.write(long)
        deaf.append((reader, writer))
    began = time.monotonic()
    await ask("while others read nothing", asking - asking // 2)
    print(f"with all connections open: {server.memory()}")
    print(f"those that say nothing: {dict(collections.Counter(await asyncio.gather(*quiet)))}")
    print(f"those that say half of it: {dict(collections.Counter(await asyncio.gather(*half)))}")
    heads = collections.Counter()
    for reader, writer in deaf:
        reader._transport.resume_reading()
        heads[(await asyncio.wait_for(reader.read(400), PATIENCE)).split(b"\r\n")[0].decode()] += 1
        writer.close()
    print(f"those that read nothing for that long: {dict(heads)}, in {time.monotonic() - began:.1f} s")
    print(f"another request: {await told(server.port, asked())}; {server.memory()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["memory", "connections"])
    parser.add_argument("--conversion", required=True)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("program", nargs="+")
    arguments = parser.parse_args()
    server = Server(arguments.program, arguments.conversion, "--slots", "2", "--queue", "32")
    try:
        work = {"memory": lambda: memory(server, arguments.requests),
                "connections": lambda: connections(server, arguments.connections)}
        asyncio.run(work[arguments.what]())
        print(f"exit code {server.end()}")
    finally:
        server.child.kill()


if __name__ == "__main__":
    main()
