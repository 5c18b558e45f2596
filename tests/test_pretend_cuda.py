"""The pretended GPU forbids what a real one forbids; without that, tests on it would prove nothing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pretend_cuda import PretendedCuda
from torch import Tensor

Work = Callable[[Tensor], Any]


def captured(work: Callable[[], Any], pool: Any = None) -> tuple[Any, Any]:
    """Return a graph of some work, and what the work returned."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        result = work()
    return graph, result


def test_numbers_are_real(cuda: PretendedCuda) -> None:
    """Factories, views, what is written in place, products: values are those of the CPU, the device is not."""
    a = torch.arange(6.0, device="cuda").view(2, 3)
    a[1].add_(10)
    product = a @ torch.ones(3, 2).to("cuda")
    assert (a.device, product.is_cuda) == (torch.device("cuda:0"), True)
    assert product.tolist() == [[3, 3], [42, 42]]
    assert cuda.allocated == 4 * (6 + 4)


@pytest.mark.usefixtures("cuda")
def test_gradients_are_those_of_the_cpu() -> None:
    """A network of several layers and a shared weight is trained alike."""
    x = torch.arange(6.0).view(2, 3)
    weights = [(torch.arange(9.0).view(3, 3) / 9).requires_grad_() for _ in range(2)]
    there = weights[1].detach().to("cuda").requires_grad_()
    for weight, x_there in ((weights[0], x), (there, x.to("cuda"))):
        hidden = torch.nn.functional.layer_norm(x_there @ weight, (3,)).relu()
        (hidden @ weight + x_there.unsqueeze(0)).square().mean().backward()
    assert weights[0].grad is not None
    assert there.grad is not None
    torch.testing.assert_close(there.grad.cpu(), weights[0].grad)


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x + torch.ones(3),
        lambda x: torch.cat((x, torch.ones(3))),
        lambda x: torch.ones(3)[x.long()],
        lambda x: x.index_put_((torch.tensor([0]),), torch.ones(1)),
        lambda x: x.to("cuda:1"),
    ],
)
@pytest.mark.usefixtures("cuda")
def test_devices_do_not_mix(work: Work) -> None:
    """Tensors of both devices cannot be worked on together; scalars, indices and copies can."""
    x = torch.zeros(3, device="cuda")
    with pytest.raises(RuntimeError, match=r"on the same device|invalid device"):
        work(x)
    x[torch.tensor([1])] = 2
    x.copy_(x.cpu() * torch.tensor(2.0))
    assert (x + torch.tensor(1.0)).tolist() == [1, 5, 1]


@pytest.mark.usefixtures("cuda")
def test_there_is_no_way_to_numpy() -> None:
    """But by the CPU."""
    with pytest.raises(TypeError, match=r"Tensor\.cpu"):
        torch.zeros(3, device="cuda").numpy()


@pytest.mark.parametrize(
    ("work", "questions", "uploads"),
    [
        (lambda x: x.sum().item(), 1, 0),
        (lambda x: bool((x > 1).any()), 1, 0),
        (lambda x: x.tolist(), 1, 0),
        (lambda x: x[x > 1], 1, 0),
        (lambda x: torch.nonzero(x), 1, 0),
        (lambda x: torch.ones(3).copy_(x), 1, 0),
        (lambda x: x.cpu(), 1, 0),
        (lambda x: torch.tensor([1.0], device=x.device), 0, 1),
        (lambda x: x[torch.tensor([1])], 0, 1),
        (lambda x: x[[0, 2]], 0, 1),
        (lambda x: x.masked_fill_(x > 1, 0), 0, 0),
        (lambda x: x[1:].clamp(max=3).to(torch.int64), 0, 0),
    ],
)
def test_questions_and_uploads_are_counted_and_not_captured(
    cuda: PretendedCuda, work: Work, questions: int, uploads: int
) -> None:
    """Whatever makes the host wait is counted, and refused while a graph is captured."""
    x = torch.zeros(3, device="cuda")
    work(x)
    assert (cuda.questions, cuda.uploads) == (questions, uploads)
    if questions or uploads:
        with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
            captured(lambda: work(x))
    else:
        captured(lambda: work(x))


@pytest.mark.usefixtures("cuda")
def test_a_capture_does_nothing_and_a_replay_does_it_again() -> None:
    """What is captured changes nothing; each replay reads what is there now, and writes where it was to."""
    a, step = torch.zeros(2, device="cuda"), 1
    graph, out = captured(lambda: a.add_(step) * 2)
    assert a.tolist() == [0, 0]
    assert out.isnan().all()
    step = 100  # too late
    graph.replay()
    assert out.tolist() == [2, 2]
    a.fill_(5)
    graph.replay()
    assert (a.tolist(), out.tolist()) == ([6, 6], [12, 12])


@pytest.mark.usefixtures("cuda")
def test_memory_that_a_graph_needs_must_stay() -> None:
    """A tensor that was given back is missed by the next replay."""
    held = [torch.zeros(2, device="cuda")]
    graph, _ = captured(lambda: held[0] + 1)
    graph.replay()
    held.clear()
    with pytest.raises(AssertionError, match="given back"):
        graph.replay()


@pytest.mark.usefixtures("cuda")
def test_graphs_of_a_pool_write_over_each_other() -> None:
    """What a graph returned is gone once one captured before it is replayed; not the other way round."""
    pool, a = torch.cuda.graph_pool_handle(), torch.ones(2, device="cuda")
    (first, x), (second, y) = captured(lambda: a + 1, pool), captured(lambda: a + 2, pool)
    first.replay()
    second.replay()
    assert (x.tolist(), y.tolist()) == ([2, 2], [3, 3])
    first.replay()
    assert y.isnan().all()


@pytest.mark.usefixtures("cuda")
def test_a_pool_whose_graphs_are_gone_takes_none() -> None:
    """PyTorch asserts it."""
    pool, a = torch.cuda.graph_pool_handle(), torch.ones(2, device="cuda")
    graph, _ = captured(lambda: a + 1, pool)
    del graph
    with pytest.raises(RuntimeError, match="use_count > 0 INTERNAL ASSERT FAILED"):
        captured(lambda: a + 1, pool)


@pytest.mark.usefixtures("cuda")
def test_libraries_must_be_warm() -> None:
    """A first product of some shape is not captured."""
    a = torch.ones(2, 2, device="cuda")
    with pytest.raises(RuntimeError, match=r"capturing: the first call of aten\.mm"):
        captured(lambda: a @ a)
    a @ a
    captured(lambda: a @ a)
    with pytest.raises(RuntimeError, match="with these shapes"):
        captured(lambda: a @ a[:, :1])


def test_another_devices_work_is_not_captured() -> None:
    """A graph is of its stream's device; what is asked of another is done at once and never again."""
    with PretendedCuda(number=1):
        a = torch.zeros(2, device="cuda:1")
        graph, _ = captured(lambda: a.add_(1))
        graph.replay()
        assert a.tolist() == [1, 1]


def test_memory_is_limited_and_given_back() -> None:
    """Too much is refused as CUDA refuses it; views take none, and what nobody holds is free."""
    with PretendedCuda(memory_bytes=1000) as cuda:
        a = torch.zeros(100, dtype=torch.uint8, device="cuda").view(10, 10)[3:]
        with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
            torch.zeros(901, dtype=torch.uint8, device="cuda")
        del a
        assert (cuda.allocated, torch.cuda.mem_get_info("cuda")) == (0, (900, 1000))
        torch.cuda.empty_cache()
        assert torch.cuda.mem_get_info("cuda") == (1000, 1000)


@pytest.mark.usefixtures("cuda")
def test_what_nothing_was_written_to_is_poison() -> None:
    """NaN, or a number that no index may be."""
    assert torch.empty(2, device="cuda").isnan().all()
    with pytest.raises(IndexError):
        torch.ones(3, device="cuda")[torch.empty(1, dtype=torch.int64, device="cuda")]


def test_nothing_is_left_behind() -> None:
    """After the context PyTorch is as before."""
    with PretendedCuda():
        pass
    assert not torch.cuda.is_available()
    with pytest.raises((AssertionError, RuntimeError)):
        torch.zeros(1, device="cuda")
