"""Ragged attention against the mask of all pairs."""

import pytest
import torch
from torch import Tensor

from gazepack.encoders.attention import Kernel, RaggedAttention, Rerouted, Rule
from gazepack.errors import UsageError

BLOCKS = [[3, 1, 5], [4], [2, 2]]
"""Tokens of each block of three sequences."""
RULES: tuple[Rule, ...] = ("frame", "block_causal", "causal", "bidirectional")


def attention(rule: Rule, kernel: Kernel = "auto") -> RaggedAttention:
    return RaggedAttention(
        rule,
        lengths=[length for blocks in BLOCKS for length in blocks],
        blocks_of_sequence=[len(blocks) for blocks in BLOCKS],
        device=torch.device("cpu"),
        kernel=kernel,
    )


def naive(rule: Rule, query: Tensor, key: Tensor, value: Tensor, *, scale: float) -> Tensor:
    """Attend under a mask that is filled pair by pair."""
    owner = [
        (s, b) for s, blocks in enumerate(BLOCKS) for b, n in enumerate(blocks) for _ in range(n)
    ]
    sees = {
        "frame": lambda q, k: owner[q] == owner[k],
        "block_causal": lambda q, k: owner[q][0] == owner[k][0] and owner[q][1] >= owner[k][1],
        "causal": lambda q, k: owner[q][0] == owner[k][0] and q >= k,
        "bidirectional": lambda q, k: owner[q][0] == owner[k][0],
    }[rule]
    num = len(owner)
    mask = torch.tensor([[sees(q, k) for k in range(num)] for q in range(num)])
    weights = (query @ key.mT * scale).masked_fill(~mask, float("-inf")).softmax(-1)
    return weights @ value


def random_qkv() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(1, 2, 17, 16, requires_grad=True) for _ in range(3)]


@pytest.mark.parametrize("kernel", ["sdpa", "flex"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_it_is_attention_under_a_mask(rule: Rule, kernel: Kernel) -> None:
    """Both kernels give what the mask of all pairs gives."""
    qkv = [x.detach() for x in random_qkv()]  # flex attention has no gradients on a CPU
    expected = naive(rule, *qkv, scale=0.3)
    torch.testing.assert_close(attention(rule, kernel)(*qkv, scale=0.3), expected)


@pytest.mark.parametrize("rule", RULES)
def test_gradients_are_those_under_a_mask(rule: Rule) -> None:
    """So are the gradients of the default kernel."""
    qkv = random_qkv()
    expected = torch.autograd.grad(naive(rule, *qkv, scale=0.25).square().sum(), qkv)
    actual = torch.autograd.grad(attention(rule)(*qkv).square().sum(), qkv)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, atol=1e-5, rtol=1e-4)


def test_flex_attention_refuses_dropout() -> None:
    """A dropout that the kernel would silently leave out is refused."""
    with pytest.raises(UsageError, match=r'no dropout, the model asks for 0\.1; .*kernel="sdpa"'):
        attention("frame", "flex")(*random_qkv(), dropout=0.1)


def test_dropout_is_handed_on() -> None:
    """Dropping all weights leaves nothing."""
    assert not attention("causal")(*random_qkv(), dropout=1.0).any()


def test_rerouting_ends_with_its_block() -> None:
    """Scaled dot-product attention is ragged inside, counted, and itself again outside."""
    qkv = random_qkv()
    plain = torch.nn.functional.scaled_dot_product_attention(*qkv)
    with Rerouted(attention("frame")) as rerouted:
        inside = torch.nn.functional.scaled_dot_product_attention(*qkv)
        assert torch.equal(qkv[0] + 1, qkv[0].add(1))
    assert rerouted.calls == 1
    torch.testing.assert_close(inside, naive("frame", *qkv, scale=0.25))
    assert torch.equal(torch.nn.functional.scaled_dot_product_attention(*qkv), plain)
