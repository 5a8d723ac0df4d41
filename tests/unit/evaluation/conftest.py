"""One thread for the boosted trees: they are tiny here, and idle threads of OpenMP spin."""

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True)
def _one_thread():
    with threadpool_limits(1):
        yield
