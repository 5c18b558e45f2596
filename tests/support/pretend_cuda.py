"""A CUDA device that is not there: what it says of itself, what it forbids, and real numbers.

    with PretendedCuda() as cuda:
        AutoGaze.bundled(device="cuda").gaze(clips)
        print(cuda.questions)

Tensors on it say `cuda:0`, to Python and to PyTorch's own C++, and hold a tensor on the CPU; operations are
done on what they hold. So the paths that product code takes on a GPU are taken, with numbers to be compared.

It is as strict as CUDA where code goes wrong. An operation on tensors of both devices is refused, but for
scalars, indices and copies; so are another device's number and `numpy()`. Memory is limited, and what nothing
was written to is poison. Graphs are those of `pretend_graphs`; a capture refuses questions, copies from the
host and libraries that were not warm, and misses what is queued on another device than its stream's.

What it cannot show: streams and events are names, nothing is done later than it is asked for, no kernel is
CUDA's, and `torch.compile` (with it flex attention) is out of reach. Gradients are those of `pretend_backward`.
"""

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Self
from unittest import mock

import torch
from pretend_backward import backward
from pretend_graphs import Graph, Pool, leaves, mapped, poison, storage_of
from torch import Tensor
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

ASKING = {
    aten._local_scalar_dense.default,
    aten._unique2.default,
    aten.bincount.default,
    aten.equal.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten.repeat_interleave.Tensor,
    aten.unique_consecutive.default,
    aten.unique_dim.default,
}
"""What comes of them decides a number or a shape on the host."""
INDEXING = {
    aten._index_put_impl_.default,
    aten._unsafe_index.Tensor,
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
}
OF_LIBRARIES = {
    aten.addmm.default,
    aten.bmm.default,
    aten.convolution.default,
    aten.mm.default,
}
"""They make handles, plans and memory (cuBLAS, cuDNN), so what is captured is to have been done before."""
MIXED = (
    "Expected all tensors to be on the same device, but found at least two devices, cuda and cpu!"
)


class Allocation:
    """Memory of the device, given back when nobody holds it."""

    def __init__(self, device: "PretendedCuda", num_bytes: int) -> None:
        if device.allocated + num_bytes > device.memory_bytes:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {num_bytes} bytes")
        self.device, self.num_bytes = device, num_bytes
        device.allocated += num_bytes
        device.reserved = max(device.reserved, device.allocated)

    def __del__(self) -> None:
        if hasattr(self, "num_bytes"):
            self.device.allocated -= self.num_bytes


class OnDevice(Tensor):
    """A tensor on the device.

    Attributes:
        held: its values, on the CPU.
        allocation: the memory that it lies in.
    """

    held: Tensor
    allocation: Allocation

    @staticmethod
    def __new__(cls, held: Tensor, allocation: Allocation) -> "OnDevice":
        """Make a tensor that has all but values."""
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=allocation.device.device,
        )

    def __init__(self, held: Tensor, allocation: Allocation) -> None:
        self.held, self.allocation = held, allocation

    @classmethod
    def __torch_dispatch__(cls, func: Any, *_: Any) -> Any:
        """Never come to: `_Mode` is asked first."""
        raise AssertionError(func)

    def tolist(self) -> Any:
        """Return its values."""
        return self.cpu().tolist()

    def numpy(self, **_: Any) -> Any:
        """Refuse, as CUDA does."""
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()")

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """Copy the values, not the device."""
        copied = self.detach().clone().requires_grad_(self.requires_grad)
        copied._is_param = getattr(self, "_is_param", False)
        return memo.setdefault(id(self), copied)

    @property
    def data(self) -> Tensor:
        """The tensor without its history."""
        return self.detach()

    @data.setter
    def data(self, value: "OnDevice") -> None:
        torch._C.TensorBase.data.__set__(self, value)
        self.held, self.allocation = value.held, value.allocation


class Stream:
    """`torch.cuda.Stream`: the number of its device, the first if none is given."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.number = 0 if device is None else device.index or 0


class Event:
    """`torch.cuda.Event`: a time of the host."""

    def __init__(self, **_: Any) -> None:
        self.seconds = 0.0

    def record(self, *_: Any) -> None:
        """Note the time."""
        self.seconds = time.perf_counter()

    def synchronize(self) -> None:
        """Wait for nothing."""

    def elapsed_time(self, end: "Event") -> float:
        """Return milliseconds."""
        return 1000 * (end.seconds - self.seconds)


class Generator(torch.Generator):
    """`torch.Generator`; the device throws the CPU's dice."""

    def __new__(cls, device: Any = None) -> Self:
        """Leave the device out."""
        return super().__new__(cls, "cpu")


class _Mode(TorchDispatchMode):
    """Hands every operation of this thread to the device."""

    def __init__(self, device: "PretendedCuda") -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do an operation where it belongs."""
        return self.device.run(func, args, kwargs or {})

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spare the import of the compiler, which takes seconds."""
        return False


class PretendedCuda:
    """A device, in its context.

    Args:
        memory_bytes: how much memory it has.
        number: which device it is. Those before it are there too, and the first is the current one, but nothing
            can be done on them.

    Attributes:
        questions: how often the host waited for an answer.
        uploads: how often something was copied from the host; that waits too, if it is not pinned.
        allocated: bytes that are held.
        reserved: the most that were, since `torch.cuda.empty_cache`; PyTorch keeps them.
    """

    def __init__(self, *, memory_bytes: int = 2**34, number: int = 0) -> None:
        self.memory_bytes = memory_bytes
        self.device = torch.device("cuda", number)
        self.questions = self.uploads = self.allocated = self.reserved = 0
        self._stream = Stream()
        self._warm: set[Any] = set()
        self._pinned: dict[int, Tensor] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(_cuda_guard())
        self._stack.enter_context(_set(torch._C._set_only_lift_cpu_tensors))
        self._stack.enter_context(_set(torch.__future__.set_swap_module_params_on_conversion))
        for owner, name, value in self._replaced():
            self._stack.enter_context(mock.patch.object(owner, name, value, create=True))
        self._stack.enter_context(_Mode(self))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def _replaced(self) -> Iterator[tuple[Any, str, Any]]:
        """Yield what is another in PyTorch."""
        answers: dict[str, Any] = {
            "_lazy_init": None,
            "current_device": 0,
            "device_count": self.device.index + 1,
            "get_device_name": "pretended",
            "is_available": True,
            "is_bf16_supported": True,
            "set_device": None,
        }
        for name, answer in answers.items():
            yield torch.cuda, name, lambda *_, answer=answer, **__: answer
        yield torch.cuda, "empty_cache", lambda: setattr(self, "reserved", self.allocated)
        yield (
            torch.cuda,
            "mem_get_info",
            lambda *_: (
                self.memory_bytes - self.reserved,
                self.memory_bytes,
            ),
        )
        yield torch.cuda, "memory_reserved", lambda *_: self.reserved
        yield torch.cuda, "memory_allocated", lambda *_: self.allocated
        yield torch.cuda, "synchronize", lambda *_: self._ask("synchronize")
        yield torch.cuda, "stream", self._streaming
        named = {"Event": Event, "Stream": Stream, "CUDAGraph": Graph, "graph_pool_handle": Pool}
        for name, value in named.items():
            yield torch.cuda, name, value
        yield torch, "Generator", Generator
        yield torch._C, "_host_emptyCache", lambda: None
        yield torch.autograd, "_engine_run_backward", backward
        types = [*_foreach_utils._foreach_supported_types, OnDevice]
        yield _foreach_utils, "_foreach_supported_types", types
        yield threading.Thread, "run", self._in_mode(threading.Thread.run)

    @contextmanager
    def _streaming(self, stream: Stream) -> Iterator[None]:
        """Do what `torch.cuda.stream` does: what its device is asked for is queued in it."""
        with mock.patch.object(self, "_stream", stream):
            yield

    def _in_mode(self, run: Callable[..., None]) -> Callable[..., None]:
        """Return what a thread does while the device is there."""

        def run_here(thread: threading.Thread) -> None:
            with _set(torch._C._set_only_lift_cpu_tensors), _Mode(self):
                run(thread)

        return run_here

    # ------------------------------------------------------------------------------------- operations

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Do an operation: here, if any of its tensors is or the outcome shall be."""
        values = leaves((args, kwargs))
        tensors = [x for x in values if isinstance(x, Tensor)]
        given = [x for x in tensors if isinstance(x, OnDevice)]
        named = [x for x in values if isinstance(x, torch.device) and x.type == "cuda"]
        if not given and not named:
            return self._on_host(func, args, kwargs)
        if any((x.index or 0) != self.device.index for x in named):
            raise RuntimeError("CUDA error: invalid device ordinal")
        if _is_made_of_others(func):
            with _Mode(self):
                return func.decompose(*args, **kwargs)
        to = kwargs.get("device")
        self._check(func, args, tensors, to)
        if to is not None:
            kwargs = kwargs | {"device": torch.device("cpu")}
        held, held_kwargs = mapped(_held, args), mapped(_held, kwargs)
        if Graph.current is not None and self._stream.number == self.device.index:
            outputs = Graph.current.record(func, held, held_kwargs, given)
            placed = self._placed(outputs, given)
            Graph.current.made([x for x in leaves(placed) if isinstance(x, OnDevice)])
            return placed
        outputs = func(*held, **held_kwargs)
        if "empty" in func.name():
            poison(outputs)
        return outputs if to is not None and to.type == "cpu" else self._placed(outputs, given)

    def _on_host(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Do an operation of the CPU; memory that is to be pinned says so, and that is all."""
        if func is aten.is_pinned.default:
            return storage_of(args[0]) in self._pinned
        if func is not aten._pin_memory.default and not kwargs.get("pin_memory"):
            return func(*args, **kwargs)
        is_copy = func is aten._pin_memory.default
        made = args[0].clone() if is_copy else func(*args, **kwargs | {"pin_memory": False})
        self._pinned[storage_of(made)] = made
        return made

    def _check(self, func: Any, args: Any, tensors: list[Tensor], to: torch.device | None) -> None:
        """Count questions and uploads; refuse what CUDA refuses."""
        host = [x for x in tensors if not isinstance(x, OnDevice) and x.ndim]
        call = func, *(tuple(x.shape) for x in tensors)
        if func in OF_LIBRARIES and call not in self._warm:
            self._refuse_in_capture(f"the first call of {func} with these shapes")
            self._warm.add(call)
        if func is aten.copy_.default:
            if not isinstance(args[0], OnDevice):
                self._ask(func)
            elif host:
                self._upload(func)
        elif func is aten._to_copy.default:
            if to is not None and to.type == "cpu":
                self._ask(func)
            elif not isinstance(args[0], OnDevice):
                self._upload(func)
        elif func in INDEXING:
            self._check_indices(func, *args[:3])
        elif host:
            raise RuntimeError(f"{MIXED} ({func})")
        elif func in ASKING:
            self._ask(func)

    def _check_indices(
        self, func: Any, indexed: Tensor, indices: Any, values: Tensor | None = None
    ) -> None:
        """Do the same for an operation with indices, which may be the host's."""
        if not isinstance(indexed, OnDevice):
            raise RuntimeError(f"{MIXED} ({func})")
        if values is not None and values.ndim and not isinstance(values, OnDevice):
            raise RuntimeError(f"{MIXED} ({func})")
        indices = [x for x in indices if x is not None]
        are_masks = [x.dtype in (torch.bool, torch.uint8) for x in indices]
        is_fill = values is not None and values.numel() == 1 and all(are_masks)
        if any(are_masks) and not is_fill:
            self._ask(func)
        if not all(isinstance(x, OnDevice) for x in indices):
            self._upload(func)

    def _ask(self, what: Any) -> None:
        self.questions += 1
        self._refuse_in_capture(what)

    def _upload(self, what: Any) -> None:
        self.uploads += 1
        self._refuse_in_capture(what)

    def _refuse_in_capture(self, what: Any) -> None:
        if Graph.current is not None:
            raise RuntimeError(
                f"CUDA error: operation not permitted when stream is capturing: {what}"
            )

    def _placed(self, outputs: Any, given: list[OnDevice]) -> Any:
        """Put outputs on the device: what was written in place is itself, a view lies where its base lies."""
        same = {id(x.held): x for x in given}
        bases = {storage_of(x.held): x for x in given}

        def place(x: Any) -> Any:
            if not isinstance(x, Tensor):
                return x
            if id(x) in same:
                return same[id(x)]
            base = bases.get(storage_of(x))
            if base is None:
                return OnDevice(x, Allocation(self, x.untyped_storage().nbytes()))
            with torch.inference_mode(base.is_inference()):
                return OnDevice(x, base.allocation)

        return mapped(place, outputs)


def _held(x: Any) -> Any:
    return x.held if isinstance(x, OnDevice) else x


@cache
def _is_made_of_others(func: Any) -> bool:
    """Whether an operation is written in terms of other ones, whatever the device."""
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), key)


@contextmanager
def _set(setter: Callable[[bool], None]) -> Iterator[None]:
    """Set a flag: that `torch.tensor(..., device=)` copies, that parameters may change their class."""
    setter(True)
    try:
        yield
    finally:
        setter(False)


@contextmanager
def _cuda_guard() -> Iterator[None]:
    """Give PyTorch a guard of CUDA devices that does nothing.

    It makes one (for fake tensors) where CUDA is built in and finds no device; lazy tensors' guard looks so.
    """
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    cuda, lazy = 1, 17
    table = "_ZN3c104impl26device_guard_impl_registryE"
    guards = (ctypes.c_void_p * (lazy + 1)).in_dll(library, table)
    before = guards[cuda]
    guards[cuda] = guards[lazy]
    torch._C._ensureCUDADeviceGuardSet()
    try:
        yield
    finally:
        guards[cuda] = before
