"""Pretended CUDA graphs: a capture does nothing but record, a replay works where the memory was.

What real ones forbid is an error here, and what they leave to chance is poison:

- memory that a replay needs and that was given back since;
- what a capture returns, before its replay; and again once a graph of the same pool that was captured before
  it is replayed, since it may work there;
- a capture into a pool whose graphs are all gone, which PyTorch's allocator asserts against.
"""

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes


class Placed(Protocol):
    """A tensor of the device."""

    held: Tensor
    """Its values."""
    allocation: Any
    """Kept by all tensors that lie in the same memory, and by nothing else."""


class Pool:
    """A private pool of the memory of graphs."""

    def __init__(self) -> None:
        self._graphs: list[weakref.ref[Graph]] = []

    def take(self, graph: "Graph") -> None:
        """Take a graph in."""
        if self._graphs and all(ref() is None for ref in self._graphs):
            raise RuntimeError("it->second->use_count > 0 INTERNAL ASSERT FAILED: a dead pool")
        self._graphs.append(weakref.ref(graph))

    def after(self, graph: "Graph") -> Iterator["Graph"]:
        """Yield the graphs that were captured after one."""
        graphs = [ref() for ref in self._graphs]
        yield from filter(None, graphs[graphs.index(graph) + 1 :])


class Graph:
    """`torch.cuda.CUDAGraph`: calls, with the very tensors that they were captured with."""

    current: "Graph | None" = None
    """What is being captured."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, list[Any], dict[str, Any], list[Tensor]]] = []
        self._made: dict[int, tuple[Tensor, weakref.ref[Any]]] = {}
        """What was allocated in the capture, by storage: the first tensor in each, and the allocation."""
        self._needed: dict[int, weakref.ref[Any]] = {}
        """The allocations of what was there before."""
        self._before: list[tuple[Tensor, Tensor]] = []

    def capture_begin(self, pool: Pool | None = None, **_: Any) -> None:
        """Begin to record."""
        assert Graph.current is None, "two captures at once"
        self._pool = Pool() if pool is None else pool
        self._pool.take(self)
        Graph.current = self

    def capture_end(self) -> None:
        """End it, as if nothing had been done."""
        Graph.current = None
        with _disable_current_modes():
            for tensor, values in self._before:
                tensor.copy_(values)
            self._before = []
            self._poison()
        self._made = {at: made for at, made in self._made.items() if made[1]() is not None}

    def record(self, func: Any, args: Any, kwargs: Any, given: Sequence[Placed]) -> Any:
        """Record a call of what is held; return its outputs, whose values mean nothing yet."""
        for x in given:
            if storage_of(x.held) not in self._made and storage_of(x.held) not in self._needed:
                whole = torch.empty(0, dtype=torch.uint8).set_(x.held.untyped_storage())
                self._before.append((whole, whole.clone()))
                self._needed[storage_of(x.held)] = weakref.ref(x.allocation)
        here = {id(x.held) for x in given}

        def baked(x: Any) -> Any:
            """Take the value now, as a launch does, of a scalar of the host."""
            return x.clone() if isinstance(x, Tensor) and id(x) not in here else x

        args, kwargs = mapped(baked, list(args)), mapped(baked, kwargs)
        outputs = func(*args, **kwargs)
        tensors = [x for x in leaves(outputs) if isinstance(x, Tensor)]
        self.calls.append((func, args, kwargs, tensors))
        return outputs

    def made(self, outputs: Sequence[Placed]) -> None:
        """Take note of where the outputs of a call lie."""
        for x in outputs:
            if storage_of(x.held) not in self._needed:
                self._made.setdefault(storage_of(x.held), (x.held, weakref.ref(x.allocation)))

    def replay(self) -> None:
        """Do the calls again, where they were."""
        is_there = all(ref() is not None for ref in self._needed.values())
        assert is_there, "a replay needs memory that was given back"
        with _disable_current_modes():
            for later in self._pool.after(self):
                later._poison()
            for func, args, kwargs, into in self.calls:
                found = [x for x in leaves(func(*args, **kwargs)) if isinstance(x, Tensor)]
                for old, new in zip(into, found, strict=True):
                    if storage_of(old) != storage_of(new):
                        old.copy_(new)

    def _poison(self) -> None:
        for tensor, allocation in self._made.values():
            if allocation() is not None:  # else nobody can look
                poison(tensor)


def mapped(function: Callable[[Any], Any], values: Any) -> Any:
    """Return values with a function done to what lists, tuples and dictionaries hold.

    PyTorch's own way takes most of the time of a small test.
    """
    if isinstance(values, list | tuple):
        return type(values)(mapped(function, value) for value in values)
    if isinstance(values, dict):
        return {key: mapped(function, value) for key, value in values.items()}
    return function(values)


def leaves(values: Any) -> list[Any]:
    """Return what lists, tuples and dictionaries hold."""
    found: list[Any] = []
    mapped(found.append, values)
    return found


def storage_of(tensor: Tensor) -> int:
    """Return what tells storages apart."""
    return tensor.untyped_storage()._cdata


def poison(tensor: Tensor) -> None:
    """Fill memory that nothing was written to: NaN, the largest integer, True."""
    if tensor.is_floating_point():
        tensor.fill_(torch.nan)
    else:
        tensor.fill_(True if tensor.dtype == torch.bool else torch.iinfo(tensor.dtype).max)
