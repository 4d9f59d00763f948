"""Deferred tensors: they read only what is taken of them, and are otherwise like any other."""

import pytest

torch = pytest.importorskip("torch")

from cachefs.sdk.deferred import DeferredTensor, defer  # noqa: E402 - it needs torch

pytestmark = pytest.mark.frameworks

WHOLE = torch.arange(60, dtype=torch.float32).reshape(6, 10)


@pytest.fixture
def asked():
    return []


@pytest.fixture
def tensor(asked):
    def read(slices):
        asked.append(tuple((each.start, each.stop) for each in slices))
        return WHOLE[slices].clone()

    return defer(read, "F32", (6, 10))


TAKEN = {
    "narrow": (lambda t: t.narrow(0, 2, 3), ((2, 5), (0, 10))),
    "narrow twice": (lambda t: t.narrow(0, 2, 3).narrow(1, 4, 2), ((2, 5), (4, 6))),
    "narrow further": (lambda t: t.narrow(0, 2, 3)[1:3], ((3, 5), (0, 10))),
    "narrow from the end": (lambda t: t.narrow(-1, 4, 2), ((0, 6), (4, 6))),
    "slice": (lambda t: t[2:4], ((2, 4), (0, 10))),
    "slices": (lambda t: t[-2:, 3:], ((4, 6), (3, 10))),
    "everything": (lambda t: t[...], ((0, 6), (0, 10))),
    "data": (lambda t: t.data[1:2], ((1, 2), (0, 10))),
    "detached": (lambda t: t.detach()[1:2], ((1, 2), (0, 10))),
    "empty": (lambda t: t[4:2], ((4, 4), (0, 10))),
}


@pytest.mark.parametrize("take", TAKEN)
@pytest.mark.parametrize("inference", [False, True])
def test_what_is_taken_is_all_that_is_read(tensor, asked, take, inference):
    how, bounds = TAKEN[take]
    with torch.inference_mode(inference):
        part = how(tensor)
        assert isinstance(part, DeferredTensor)
        assert asked == []
        parameter = torch.empty(part.shape)
        parameter.copy_(part)
        assert torch.equal(parameter, how(WHOLE))
    assert asked == [bounds]


OPERATIONS = {
    "transposed": lambda t: t.t(),
    "viewed": lambda t: t.view(3, 20),
    "steps": lambda t: t[::2],
    "a row": lambda t: t[3],
    "chunks": lambda t: t.chunk(2, 1)[1],
    "split": lambda t: t.split([4, 6], dim=1)[0],
    "joined": lambda t: torch.cat([t, t[:1]]),
    "another dtype": lambda t: t.to(torch.bfloat16),
    "sum": lambda t: t.sum(),
    "masked": lambda t: t[t > 5],
    "unsqueezed": lambda t: t.unsqueeze(0).repeat(2, 1, 1),
    "cloned": lambda t: t.clone(),
    "contiguous": lambda t: t.contiguous() + 0,
    "in place": lambda t: torch.zeros(6, 10).add_(t),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_everything_else_is_as_with_an_ordinary_tensor(tensor, operation):
    how = OPERATIONS[operation]
    assert torch.equal(how(tensor), how(WHOLE))


def test_a_tensor_is_read_once(tensor, asked):
    assert tensor.sum() == tensor.sum()
    assert torch.equal(tensor[1:2] + 0, WHOLE[1:2])
    assert len(asked) == 1


def test_shape_and_dtype_are_known_without_reading(tensor, asked):
    assert (tensor.shape, tensor.dtype, tensor.numel()) == ((6, 10), torch.float32, 60)
    assert (tensor.dim(), tensor.nbytes, tensor.is_contiguous()) == (2, 240, True)
    assert "deferred" in repr(tensor)
    assert asked == []


def test_four_bits_are_not_deferred():
    assert defer(lambda _: WHOLE, "F4", (4, 6)) is None
