import dataclasses
import os

import pytest

from gazepack.errors import UsageError
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


def test_gpus_of_the_workers_leave_this_process_the_cpu() -> None:
    """With GPUs for workers this process needs none; without, it is asked for what it does not have."""
    assert Crew(device="cuda:7", gpus_per_worker=0.5).own_device == "cpu"
    with pytest.raises(UsageError, match="unknown device 'tpu'"):
        _ = Crew(device="tpu").own_device
