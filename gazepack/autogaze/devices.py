"""Where to compute."""

import torch

from gazepack.errors import UsageError


def find_device(device: str | torch.device) -> torch.device:
    """Return a device that is there.

    Args:
        device: cpu, cuda or cuda:N.

    Raises:
        UsageError: there is no such device.
    """
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or found.type not in {"cpu", "cuda"}:
        raise UsageError(f"unknown device '{device}'", remedy="use cpu, cuda or cuda:N")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {found} is not there", remedy="use --device cpu")
    return found
