"""Logits, the largest of which are kept, and the others' probability."""

import numpy as np
import pytest
import torch

from shvit_pl.errors import UserError
from shvit_pl.teachers.cache import dense, pack


def kept(logits, top_k, tau=1.0):
    columns = pack(logits, top_k, tau)
    bits = {"logits": columns["logits"].view(np.int16), "tail": columns["tail"].view(np.int32)}
    return {name: torch.from_numpy(column) for name, column in {**columns, **bits}.items()}


@pytest.mark.parametrize("tau", [0.5, 1.0, 4.0])
def test_the_tail_keeps_its_probability_and_the_order_stays(tau):
    torch.manual_seed(0)
    logits = 4 * torch.randn(64, 100)
    answers = kept(logits, 5, tau)
    ours, theirs = (dense(answers, 100) / tau).softmax(1), (logits / tau).softmax(1)
    top = logits.topk(5).indices
    assert torch.equal(answers["indices"].long(), top)
    torch.testing.assert_close(ours.gather(1, top), theirs.gather(1, top), atol=1e-5, rtol=5e-3)
    torch.testing.assert_close(1 - ours.gather(1, top).sum(1), 1 - theirs.gather(1, top).sum(1), atol=1e-3, rtol=1e-2)
    rest = ours.scatter(1, top, float("nan"))
    rest = rest[~rest.isnan()].view(64, 95)
    torch.testing.assert_close(rest.amax(1), rest.amin(1))
    assert torch.equal(dense(answers, 100).argmax(1), logits.argmax(1))


def test_large_logits_fit_into_half_precision():
    logits = torch.tensor([[1e6, 1e6 - 3, -1e6, 0.0], [-2e5, -2e5 + 1, -2e5 - 2, -2e5]])
    for top_k in (2, 3, 4):
        answer = dense(kept(logits, top_k), 4)
        assert answer.isfinite().all()
        torch.testing.assert_close(answer.softmax(1)[:, :2], logits.softmax(1)[:, :2], atol=0.08, rtol=0)
    torch.testing.assert_close(dense(kept(logits, 4), 4).softmax(1), logits.softmax(1), atol=1e-3, rtol=0)


def test_all_classes_may_be_kept():
    logits = torch.tensor([[0.5, 2.0, -1.0]])
    for top_k in (3, 4, 20):
        answers = kept(logits, top_k)
        assert answers["indices"].shape == (1, 3)
        torch.testing.assert_close(dense(answers, 3), logits - 2, atol=1e-3, rtol=0)
    with pytest.raises(UserError, match="not finite"):
        pack(torch.tensor([[0.0, float("nan")]]), 1, 1.0)


def test_indices_are_as_wide_as_the_classes_need():
    for classes, dtype in ((1000, torch.int16), (32768, torch.int16), (32769, torch.int32)):
        logits = torch.zeros(1, classes)
        logits[0, -1] = 1
        answers = kept(logits, 2)
        assert (answers["indices"].dtype, answers["indices"][0, 0]) == (dtype, classes - 1)
