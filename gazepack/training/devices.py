"""Where training computes."""

import torch

from gazepack.errors import UsageError


def find_device(name: str) -> torch.device:
    """Return the device of a name.

    Raises:
        UsageError: there is no such device.
    """
    if name == "cpu":
        return torch.device("cpu")
    if name.partition(":")[0] != "cuda":
        raise UsageError(f"unknown device {name!r}", remedy="use cpu or cuda")
    number = name.partition(":")[2] or "0"
    if not number.isdigit() or int(number) >= torch.cuda.device_count():
        raise UsageError(f"device {name} is not there", remedy="use --device cpu")
    return torch.device(name)
