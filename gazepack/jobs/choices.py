"""What the user left to us: on which device, and by which executor."""

from importlib.util import find_spec
from typing import Literal

import torch

from gazepack.autogaze.devices import find_device
from gazepack.errors import UsageError
from gazepack.video import hardware

Executor = Literal["serial", "ray"]


def choose_device(device: str) -> str:
    """Return the device to choose on: the GPU for `auto` where there is one.

    Raises:
        UsageError: it does not exist.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return str(find_device(device))


def check_decode_device(device: str, *, is_here: bool = True) -> None:
    """Refuse a decode device that cannot be used, before anything is decoded.

    Args:
        device: what the user said.
        is_here: whether decoding happens on this machine; if not, only the name can be checked.

    Raises:
        UsageError: PyAV does not know it, or it cannot be opened.
    """
    if device == hardware.CPU:
        return
    if is_here:
        hardware.open_device(device)
    else:
        hardware.check_is_known(device)


def choose_executor(asked: Executor | None, *, num_units: int, address: str | None) -> Executor:
    """Return who packs: Ray, unless there is one unit, whose packing takes less time than starting it.

    Args:
        asked: what the user said.
        num_units: units to pack.
        address: of the cluster that the user named.

    Raises:
        UsageError: Ray was asked for and is not installed.
    """
    there = find_spec("ray") is not None
    if not there and (asked == "ray" or address is not None):
        raise UsageError(
            "Ray is not installed", remedy="pip install 'gazepack[ray]', or use --executor serial"
        )
    if asked is not None:
        return asked
    return "ray" if address is not None or (there and num_units > 1) else "serial"
