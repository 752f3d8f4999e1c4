"""A policy that is looked at keeps its mode, whatever happens meanwhile."""

from __future__ import annotations

import pytest
import torch

from tspin.forward.passes import evaluating


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_given_back_after_an_error(training: bool) -> None:
    policy = torch.nn.Dropout().train(training)
    with pytest.raises(RuntimeError), evaluating(policy):
        assert not policy.training
        assert not torch.is_grad_enabled()
        raise RuntimeError
    assert policy.training == training
    assert torch.is_grad_enabled()
