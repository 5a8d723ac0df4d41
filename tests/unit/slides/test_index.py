"""Arrays of the serving index: what is read of them does not stay with the process."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from spatialformer_core.slides import index

MEBIBYTE = 1 << 20


def resident_bytes(path):
    """Return how much of a mapped file this process holds."""
    found, here = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ", 1)[0]:
            here = line.endswith(str(path))
        elif here and line.startswith("Rss:"):
            found += 1024 * int(line.split()[1])
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell what is resident")
def test_released_pages_are_no_longer_held_and_read_the_same_again(tmp_path):
    written = np.arange(MEBIBYTE, dtype=np.int64)
    index.save(tmp_path, "large", written)
    mapped = index.load(tmp_path, "large")
    assert mapped.sum() == written.sum()
    assert resident_bytes(tmp_path / "large.npy") > 7 * MEBIBYTE
    index.release(mapped)
    assert resident_bytes(tmp_path / "large.npy") < MEBIBYTE
    np.testing.assert_array_equal(mapped, written)


def test_an_array_that_is_not_mapped_is_left_alone():
    plain = np.arange(3)
    index.release(plain)
    assert plain.tolist() == [0, 1, 2]
