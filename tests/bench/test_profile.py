"""`octavo bench profile`: its tables, its trace and its comparison of fusions, on a tiny model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo.backends.ops import I32, KvLayout, Ops, ProgramLimits, StepInputs, Value
from octavo.base.config import EngineArgs
from octavo.base.errors import MemoryPlanError
from octavo.base.types import KvGroup
from octavo.cli import main
from octavo.runner.memory import MemoryPlan
from octavo.weights.loader import HostTensor
from tests.bench.test_throughput import SHAPE
from tools.make_model.gguf import write_gguf

pytest.importorskip("octavo._kernels", reason="CPU BACKEND ABSENT: the extension octavo._kernels is not built")

from octavo.backends.cpu.backend import CpuBackend
from octavo.backends.cpu.cost import Cost
from octavo.backends.cpu.kv import CpuKv
from octavo.backends.cpu.limits import MachineLimits
from octavo.backends.cpu.planner import FUSIONS
from octavo.backends.cpu.profile import ChunkTime, StageInfo, StageTime, StageWeight
from octavo.backends.cpu.weights import CpuWeight
from octavo.bench import profile
from octavo.bench.pages import fill_pages, words

STEPS = ["--batch-size", "3", "--context-len", "20", "--input-len", "24", "--num-iters", "2"]
ENGINE = ["--max-model-len", "128", "--threads", "2"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_gguf(tmp_path_factory.mktemp("profile") / "model.gguf", SHAPE, "Q8_0"))


def test_tables_and_trace(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to, trace = tmp_path / "profile.json", tmp_path / "trace.json"
    files = ["--json", str(to), "--trace", str(trace)]
    assert main(["bench", "profile", model, *STEPS, *ENGINE, *files, "--no-fusion"]) == 0
    result = json.loads(to.read_text())
    assert [step["step"]["name"] for step in result["steps"]] == ["decode", "prompt"]
    for step in result["steps"]:
        for lines in (step["kinds"], step["groups"], step["instructions"]):
            assert sum(line["share"] for line in lines) == pytest.approx(1)
            assert sum(line["limit_us"] for line in lines) == pytest.approx(step["limit_us"])
        assert step["fraction"] == pytest.approx(step["limit_us"] / step["step_us"])
        names = {line["name"]: line for line in step["groups"]}
        assert names["attn_q + attn_k + attn_v"]["count"] == SHAPE.layers and "ffn_gate + ffn_up" in names
        assert {line["name"] for line in step["kinds"]} >= {"rows", "linear Q8_0", "gated Q8_0", "attention"}
        assert any(line["name"] == "blk.1.ffn_down" for line in step["instructions"])
    left_out = {time["left_out"] for time in result["fusions"]}
    assert left_out == {"none", "all", *FUSIONS}
    assert all(time["ratio"] == 1 for time in result["fusions"] if time["left_out"] == "none")
    printed = capsys.readouterr().out
    assert "decode: 3 rows of 1 tokens, context 20" in printed and "fusion left out" in printed
    check_trace(json.loads(trace.read_text())["traceEvents"])


def check_trace(events: list[dict[str, object]]) -> None:
    """Chrome's format: complete events of positive length, named processes and threads, no overlap on a worker."""
    spans = [event for event in events if event["ph"] == "X"]
    assert {event["pid"] for event in spans} == {0, 1}
    names = {event["args"]["name"] for event in events if event["name"] == "process_name"}  # type: ignore[index]
    assert names == {"decode", "prompt"}
    assert all(event["dur"] >= 0 and event["ts"] >= 0 for event in spans)  # type: ignore[operator]
    assert {event["cat"] for event in spans} >= {"rows", "linear", "gated", "attention"}


def test_trace_events_of_given_chunks() -> None:
    info = StageInfo(
        0, "linear", "tokens", ("Linear",), (StageWeight("model.layers.3.self_attn.o_proj.weight", "Q8_0", (8, 8)),)
    )
    stages = [StageTime(info, 1, 1, 2, 1e-6, 1e-6)]
    chunks = [ChunkTime(1, 0, 5_000, 7_500), ChunkTime(0, 0, 6_000, 6_250)]
    events = [event for event in profile.trace_events(chunks, stages, "decode", 4) if event["ph"] == "X"]
    name = "model.layers.3.self_attn.o_proj"
    assert [(e["name"], e["pid"], e["tid"], e["ts"], e["dur"]) for e in events] == [
        (name, 4, 1, 0.0, 2.5), (name, 4, 0, 1.0, 0.25)
    ]  # fmt: skip
    assert profile.group_name(info) == "self_attn.o_proj" and profile.kind_name(info) == "linear Q8_0"


def test_lines_of_given_times() -> None:
    """Two layers of one product: medians of three runs, then sums."""
    infos = [StageInfo(i, "linear", "tokens", ("Linear",), (StageWeight(f"blk.{i}.x.weight", "Q8_0", (8, 8)),))
             for i in range(2)]  # fmt: skip
    walls = [(1e-6, 3e-6), (2e-6, 9e-6), (9e-6, 5e-6)]
    runs = [[StageTime(info, 1, 1, 1, wall, wall) for info, wall in zip(infos, own, strict=True)] for own in walls]
    costs = [[Cost(3_000, 0)], [Cost(0, 4_000, "int8")]]
    machine = MachineLimits(1e9, {"f32": 1e9, "int8": 2e9})
    step = profile.Step("decode", 1, 1, 4)
    found = profile.step_profile(step, [9e-6, 20e-6, 10e-6], runs, costs, machine, threads=2)
    assert (found.step_us, found.limit_us, found.fraction) == pytest.approx((10, 5, 0.5))
    assert [line.wall_us for line in found.instructions] == pytest.approx([2, 5])
    (group,) = found.groups
    assert (group.name, group.count, group.wall_us, group.share) == ("x", 2, pytest.approx(7), 1)
    assert (group.waited, group.gb_per_s, group.gop_per_s) == pytest.approx((0.5, 3 / 7, 4 / 7))
    assert (group.limit_us, group.fraction) == pytest.approx((5, 5 / 7))


def test_steps_made_by_hand() -> None:
    step = profile.Step("prompt", 2, 5, 40)
    layout = KvLayout((KvGroup("a"), KvGroup("b")), (0, 1), (0, 0), 1, 1, 64, "f16", 16)
    inputs = step.inputs(layout, 100)
    assert step.num_pages(layout) == 12 and step.shape.rows == ((5, 40), (5, 40))
    assert inputs.positions.tolist() == [35, 36, 37, 38, 39] * 2
    assert inputs.row_starts.tolist() == [0, 5, 10] and inputs.sample_rows.tolist() == [4, 9]
    assert sorted(page for table in inputs.page_tables for page in table.ravel().tolist()) == list(range(12))


def test_pages_are_bounded_by_what_weights_and_scratch_leave() -> None:
    plan = MemoryPlan(
        weights_bytes=5000, kv_bytes_per_token=64, page_bytes=1024, page_size=16, num_pages=1, scratch_bytes=2000,
        available_bytes=7000 + 8 * 1024, max_model_len=64, max_num_seqs=1, max_num_batched_tokens=1, max_samples=1,
        groups=(KvGroup("a"),),
    )  # fmt: skip
    profile.check_fits(plan, 8)
    with pytest.raises(MemoryPlanError, match="Lower --batch-size, --context-len or --input-len"):
        profile.check_fits(plan, 9)


def test_steps_read_pages_that_were_written(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filled: list[tuple[list[list[int]], int]] = []

    def record(backend: CpuBackend, kv: CpuKv, tables: Sequence[I32], context: int) -> None:
        filled.append((tables[0].tolist(), context))
        fill_pages(backend, kv, tables, context)

    monkeypatch.setattr(profile, "fill_pages", record)
    steps = [profile.Step("decode", 2, 1, 20), profile.Step("prompt", 1, 24, 24)]
    with profile.loaded(EngineArgs(model=model, threads=1), steps):
        assert filled == [([[0, 1], [2, 3]], 20)], "the prompt's step writes its pages itself"


def test_pages_are_filled_to_the_end_of_the_context_in_every_layer() -> None:
    """Keys of zeros for the query: attention is the mean of all values, here of two groups with tables of their own."""
    backend = CpuBackend(threads=2)
    layout = KvLayout((KvGroup("a"), KvGroup("b")), (0, 1, 0), (0, 0, 1), 2, 2, 16, "f32", 16)
    kv = backend.allocate_kv(layout, 140)
    scattered = np.random.default_rng(5).permutation(140).astype(np.int32).reshape(2, 2, 35)
    fill_pages(backend, kv, list(scattered), 550)
    queries = backend.load(HostTensor.from_float32("q", np.zeros((1, 64), np.float32)))

    def forward(ops: Ops, w: Mapping[str, CpuWeight], layers: Sequence[Any]) -> Mapping[str, Value]:
        q = ops.embed(w["q"])
        found = [ops.attention(q, layer, num_heads=4, scale=1.0) for layer in layers]
        return {"logits": ops.gather_rows(ops.add(ops.add(found[0], found[1]), found[2]))}

    program = backend.build(forward, {"q": queries}, kv, ProgramLimits(2, 2, 2, 560))
    last, contexts = np.full(2, 549, np.int32), np.full(2, 550, np.int32)
    rows = np.arange(3, dtype=np.int32)
    step = StepInputs(np.zeros(2, np.int32), last, rows, contexts, tuple(scattered), rows[:2])
    values = words(32)[np.arange(550) % 64].mean(axis=0).reshape(2, 1, 16)
    want = np.broadcast_to(3 * values, (2, 2, 16)).ravel()  # two query heads share a key head
    for row in program.run(program.prepare(step))["logits"]:
        assert np.allclose(row, want, atol=1e-4) and np.abs(row).max() > 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", "0"], "batch-size must be at least 1"),
        (["--input-len", "4096"], "4096 tokens are more than the model's context"),
        (["--backend", "reference"], "reference"),
        (["--max-num-seqs", "4"], "--max-num-seqs is not for this benchmark"),
        (["--kv-memory", "8MiB"], "--kv-memory is not for this benchmark"),
        (["--gpu-memory-utilization", "0.5"], "--gpu-memory-utilization is not for this benchmark"),
        (["--enable-prefix-caching"], "--enable-prefix-caching is not for this benchmark"),
        (["--seed", "0"], "--seed is not for this benchmark"),
        (["--chat-template", "x.jinja"], "--chat-template is not for this benchmark"),
        (["--trace", "/no/such/folder/t.json"], "/no/such/folder"),
    ],
)
def test_refusals(model: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "profile", model, *ENGINE, *arguments]) == 1
    assert message in capsys.readouterr().err
