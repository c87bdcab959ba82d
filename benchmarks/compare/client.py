"""The load client: the same for every server. Closed loop, streaming /v1/completions, prompts as token ids.

Plain asyncio over a new connection a request; lines of a stream are stamped when they arrive and read afterwards, so
that the client takes as little of the processors as it can. Its own share is part of what it reports.
"""

from __future__ import annotations

import asyncio
import functools
import json
import random
import time
from dataclasses import dataclass, field
from typing import Any

from benchmarks.compare.accounting import Meter
from tools.make_model.vocabulary import make_vocabulary


@dataclass(frozen=True)
class Ask:
    """One request: exactly `output_len` tokens are to come back."""

    prompt: list[int]
    output_len: int


@dataclass
class Answer:
    """When a request was sent and when each piece of text came; how many tokens the server says it made."""

    sent_s: float
    pieces_s: list[float] = field(default_factory=list)
    tokens: int = 0
    cached: int = 0


@functools.cache
def plain_tokens(vocab_size: int) -> list[int]:
    """Ids whose text is ASCII letters: a random model mostly repeats its input, and no server holds such text back."""
    texts = make_vocabulary(vocab_size).tokens
    return [i for i, text in enumerate(texts) if text.isascii() and text.isalpha()]


def random_load(vocab_size: int, requests: int, seed: int) -> list[Ask]:
    """Prompts of 128 to 512 tokens, outputs of 64 to 128, uniform."""
    draw, letters = random.Random(seed), plain_tokens(vocab_size)
    return [Ask(draw.choices(letters, k=draw.randint(128, 512)), draw.randint(64, 128)) for _ in range(requests)]


def prefix_load(vocab_size: int, requests: int, seed: int) -> list[Ask]:
    """A common prefix of 1,024 tokens, 32 tokens of each request's own, outputs of 32."""
    draw, letters = random.Random(seed), plain_tokens(vocab_size)
    common = draw.choices(letters, k=1024)
    return [Ask(common + draw.choices(letters, k=32), 32) for _ in range(requests)]


def run(port: int, model: str, load: list[Ask], users: int) -> dict[str, float]:
    """Metrics of the whole load. Raises RuntimeError when an answer is not what was asked for."""
    meter = Meter()
    begin = time.perf_counter()
    answers = asyncio.run(_closed_loop(port, model, load, users))
    seconds = time.perf_counter() - begin
    return metrics(load, answers, seconds) | {"client_share": meter.own_share}


def metrics(load: list[Ask], answers: list[Answer], seconds: float) -> dict[str, float]:
    """Tokens a second, time to the first piece, gaps between pieces; every answer must have all its tokens."""
    for ask, answer in zip(load, answers, strict=True):
        if answer.tokens != ask.output_len:
            raise RuntimeError(f"an answer of {answer.tokens} tokens where {ask.output_len} were asked for")
    first = [1e3 * (answer.pieces_s[0] - answer.sent_s) for answer in answers]
    gaps = [1e3 * (b - a) for x in answers for a, b in zip(x.pieces_s, x.pieces_s[1:], strict=False)]
    output = sum(answer.tokens for answer in answers)
    return {
        "tok_s": output / seconds,
        "total_tok_s": (output + sum(len(ask.prompt) for ask in load)) / seconds,
        "wall_s": seconds,
        "ttft_p50_ms": percentile(first, 50),
        "ttft_p99_ms": percentile(first, 99),
        "itl_p50_ms": percentile(gaps, 50),
        "itl_p99_ms": percentile(gaps, 99),
        "itl_max_ms": max(gaps),
        "pieces_per_token": sum(len(answer.pieces_s) for answer in answers) / output,
        "cached_tokens": float(sum(answer.cached for answer in answers)),
    }


def percentile(values: list[float], percent: float) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * int(percent) // 100) - 1))]


async def _closed_loop(port: int, model: str, load: list[Ask], users: int) -> list[Answer]:
    waiting = list(enumerate(load))[::-1]
    answers: dict[int, Answer] = {}

    async def user() -> None:
        while waiting:
            index, ask = waiting.pop()
            answers[index] = await complete(port, model, ask)

    await asyncio.gather(*(user() for _ in range(users)))
    return [answers[index] for index in range(len(load))]


async def complete(port: int, model: str, ask: Ask) -> Answer:
    """One streamed completion."""
    body = {"model": model, "prompt": ask.prompt, "max_tokens": ask.output_len, "temperature": 0, "stream": True,
            "ignore_eos": True, "stream_options": {"include_usage": True}}  # fmt: skip
    data = json.dumps(body).encode()
    head = (f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n")  # fmt: skip
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    answer = Answer(time.perf_counter())
    writer.write(head.encode() + data)
    lines: list[tuple[float, bytes]] = []
    status = await reader.readline()
    while line := await reader.readline():
        if line.startswith(b"data: {"):
            lines.append((time.perf_counter(), line))
        elif b" 200 " not in status:
            status += line
    writer.close()
    if b" 200 " not in status.split(b"\r\n", 1)[0]:
        raise RuntimeError(f"the server answered {status.decode(errors='replace')[:1000]}")
    for at, line in lines:
        _read(answer, at, json.loads(line[6:]))
    if not answer.pieces_s and lines:  # bytes that are no text, held back to the end
        answer.pieces_s.append(lines[-1][0])
    return answer


def _read(answer: Answer, at: float, event: dict[str, Any]) -> None:
    if "error" in event:
        raise RuntimeError(f"the server's stream says {event['error']}")
    if any(choice.get("text") or not choice.get("finish_reason") for choice in event.get("choices") or ()):
        answer.pieces_s.append(at)
    if usage := event.get("usage"):
        answer.tokens = usage["completion_tokens"]
        answer.cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
