import pytest
import torch

from gazepack.autogaze.memory import MOST_ROWS, Memory
from gazepack.errors import UsageError

CPU = torch.device("cpu")


class Device:
    """Work that needs memory for every row, of a device that has it for a few."""

    def __init__(self, rows_that_fit):
        self.rows_that_fit = rows_that_fit
        self.sizes = []
        self.num_forgotten = 0

    def work(self, rows):
        self.sizes.append(len(rows))
        if len(rows) > self.rows_that_fit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return [10 * row for row in rows]

    def forget(self):
        self.num_forgotten += 1

    def map(self, memory, num):
        return memory.map(self.work, num, bytes_per_row=100, forget=self.forget)


@pytest.mark.parametrize(("num_bytes", "rows"), [(0, 1), (100, 1), (799, 4), (10**9, MOST_ROWS)])
def test_as_many_rows_as_fit(num_bytes, rows):
    """They are a power of two, and at least one."""
    assert Memory(CPU, num_bytes).rows(100) == rows


@pytest.mark.parametrize("num", [0, 1, 3, 8, 11])
def test_every_row_is_worked_on_once(num):
    """Results come in order, whatever the last group is filled up with."""
    device = Device(8)
    assert device.map(Memory(CPU, 800), num) == [10 * row for row in range(num)]
    assert device.sizes == {0: [], 1: [1], 3: [4], 8: [8], 11: [8, 4]}[num]


def test_running_out_of_memory_halves_the_group_and_goes_on():
    """What is kept is given back, nothing is lost, and later batches begin with the size that fits."""
    device, memory = Device(2), Memory(CPU, 800)
    with pytest.warns(
        RuntimeWarning, match=r"cpu ran out of memory with . tiles at once; going on"
    ):
        assert device.map(memory, 5) == [0, 10, 20, 30, 40]
    assert device.sizes == [8, 4, 2, 2, 1]
    assert device.num_forgotten == 2
    assert device.map(memory, 8) == [10 * row for row in range(8)]
    assert device.sizes[5:] == [2, 2, 2, 2]


def test_too_little_for_one_row_is_said():
    """Then there is nothing to halve."""
    with (
        pytest.warns(RuntimeWarning),
        pytest.raises(UsageError, match=r"too little memory .* CUDA out of memory; free some"),
    ):
        Device(0).map(Memory(CPU, 800), 2)


def test_other_errors_are_not_taken_for_it():
    """A bug is not retried."""

    def work(_):
        raise RuntimeError("no kernel")

    with pytest.raises(RuntimeError, match="no kernel"):
        Memory(CPU, 800).map(work, 3, bytes_per_row=100, forget=lambda: None)
