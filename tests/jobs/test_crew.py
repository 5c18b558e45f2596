import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from gazepack.errors import UsageError
from gazepack.jobs import PackSettings, build_selector, open_run
from gazepack.jobs.crew import MOST_DECODERS, Crew
from gazepack.jobs.decoders import DecoderSettings
from gazepack.jobs.executors.cluster import ClusterSettings
from gazepack.jobs.unit import Resources


def test_what_is_not_said_is_what_the_parts_have_themselves() -> None:
    """The defaults of a crew are those of the settings that it is turned into."""
    crew = Crew()
    num = min(MOST_DECODERS, os.cpu_count() or 1)
    assert crew.own_decoders == dataclasses.replace(DecoderSettings(), num=num)
    assert crew.batch_size == Resources().batch_size
    alone = ClusterSettings()
    assert (crew.cpus_per_worker, crew.units_per_worker) == (
        alone.cpus_per_worker,
        alone.units_per_worker,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": "dask"}, "executor 'dask' does not exist; use serial or ray"),
        ({"workers": (1, 0)}, "workers 1:0 are none"),
        ({"executor": "serial", "workers": (1, 2)}, r"workers \(1, 2\) means nothing to the exec"),
        ({"executor": "serial", "ray_address": "auto"}, "ray_address 'auto' means nothing"),
        ({"executor": "serial", "gpus_per_worker": 0.5}, "gpus_per_worker 0.5 means nothing"),
    ],
)
def test_what_would_not_be_honoured_is_refused(options: dict[str, Any], message: str) -> None:
    """An executor that is none was taken for Ray, and what only Ray does was left out, in silence."""
    with pytest.raises(UsageError, match=message):
        Crew(**options)


def test_gpus_of_workers_want_workers(videos: Path, tmp_path: Path) -> None:
    """One shard would be packed in this process, on its CPU, although GPUs were asked for."""
    settings = PackSettings.parse({"selector": {"name": "greedy"}})
    selector = build_selector(settings.selector, device="cpu")
    run = open_run([str(videos)], str(tmp_path / "out"), settings=settings, selector=selector)
    assert len(run.pending) == 1
    assert Crew().executor_of(run) == "serial"
    assert Crew(gpus_per_worker=1).executor_of(run) == "ray"


def test_gpus_of_the_workers_leave_this_process_the_cpu() -> None:
    """With GPUs for workers this process needs none; without, it is asked for what it does not have."""
    assert Crew(device="cuda:7", gpus_per_worker=0.5).own_device == "cpu"
    with pytest.raises(UsageError, match="device 'tpu' does not exist"):
        _ = Crew(device="tpu").own_device
