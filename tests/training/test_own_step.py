"""A step of the user's own: what its network must be."""

import pytest
from torch import nn

from harness.schema.errors import StepError
from harness.training.own_step import OwnStep


def test_a_network_whose_layers_have_no_size_yet_is_named() -> None:
    own = OwnStep(build=lambda: nn.Sequential(nn.LazyLinear(2)), batch=2, inputs=(4,))
    with pytest.raises(StepError, match=r"parameter 0\.weight has no size yet"):
        own.network("cpu")
