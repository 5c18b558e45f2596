"""The benchmark of ViTs, at a tiny size."""

import functools
import importlib.util
import sys
import types
from pathlib import Path

import pytest

pytest.importorskip(
    "transformers", reason="encoders are not installed: pip install gazepack[encoders]"
)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """benchmarks/vit_latency.py, with a tiny model beside its own."""
    path = Path(__file__).parents[1] / "benchmarks" / "vit_latency.py"
    spec = importlib.util.spec_from_file_location("vit_latency", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "vit_latency", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    monkeypatch.setitem(module.SHAPES, "tiny", (32, 48, 2, 2))
    return module


def test_a_row_for_each_attention(
    benchmark: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table has a row for each size, model and attention, with the tokens of the paper's ratio."""
    line = "--models tiny --pixels 224 --repeats 1 --dense-frames 1 --no-select"
    benchmark.main(line.split())
    rows = [
        [cell.strip() for cell in row.split("|")[1:-1]]
        for row in capsys.readouterr().out.splitlines()
        if row.startswith("| tiny")
    ]
    assert [row[4] for row in rows] == ["`block_causal`", "`frame`"]
    for row in rows:
        assert row[:4] == ["tiny", "224", "5880", str(30 * round(0.069 * 265))]
        dense, gazed = float(row[5]), float(row[6])
        assert min(dense, gazed) > 0
        assert float(row[7].split()[0]) == pytest.approx(dense / gazed, rel=0.05, abs=0.06)
        assert 0 < float(row[9].rstrip("%")) < 100


@pytest.mark.usefixtures("cuda")
def test_a_gpu_is_timed_between_events(
    benchmark: types.ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a pretended GPU, in bfloat16; its own attention is compiled, so the other kernel stands in."""
    with_sdpa = functools.partial(benchmark.GazedEncoder, kernel="sdpa")
    monkeypatch.setattr(benchmark, "GazedEncoder", with_sdpa)
    line = "--device cuda --models tiny --pixels 224 --attention frame --repeats 1 --dense-frames 1"
    benchmark.main([*line.split(), "--no-select"])
    told = capsys.readouterr().out
    assert told.startswith("30 frames, seconds, pretended, torch.bfloat16")
    (row,) = (row.split("|") for row in told.splitlines() if row.startswith("| tiny"))
    assert min(float(row[6]), float(row[7])) > 0


def test_own_time_is_inside_the_whole(benchmark: types.ModuleType) -> None:
    """The model's own modules are seen once a call, one after the other; the hooks are gone after it."""
    torch = pytest.importorskip("torch")
    clock = benchmark.Clock(torch.device("cpu"))
    model = benchmark.build("tiny", torch.device("cpu"), torch.float32)
    grid = benchmark.Grid(rows=1, cols=1, patch_size=benchmark.PATCH_SIZE)
    _, batch = benchmark.one_second(grid, 0.01)
    encoder = benchmark.GazedEncoder(model)
    with clock.inside(benchmark.own_modules(model)) as spans:
        total = clock(lambda: encoder(batch))
    assert len(spans) == 1 + 2 + 1  # patch embedding, layers, last norm
    flat = [point for span in spans for point in span]
    assert flat == sorted(flat)
    assert sum(clock.between(*span) for span in spans) <= total
    encoder(batch)
    assert len(spans) == 4
