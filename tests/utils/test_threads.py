"""One thread inside of the block, as many as before behind it."""

import numpy as np
import pytest
import threadpoolctl
import torch

from modal_clip_dual.utils.threads import one_thread


def counts():
    np.linalg.norm(np.ones((2, 2)))
    return [torch.get_num_threads(), *(pool["num_threads"] for pool in threadpoolctl.threadpool_info())]


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    with threadpoolctl.threadpool_limits(3):
        yield
    torch.set_num_threads(before)


def test_inside_and_behind(three_threads):
    before = counts()
    assert before[0] == 3
    with one_thread():
        assert set(counts()) == {1}
    assert counts() == before
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert counts() == before
