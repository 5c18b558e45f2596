"""What every room's tests share."""

import os
from pathlib import Path

import pytest
import torch

# Tests run beside other work; threads that wait for each other on a busy machine cost twenty times their use.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded outputs and real clips, which is not part of the repository."""
    folder = Path(os.environ.get("GAZEPACK_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (folder / "clips" / "manifest.csv").is_file():
        pytest.skip(f"no clips and fixtures at {folder}; set GAZEPACK_SHARED to their folder")
    return folder
