"""Fixtures that every test may use."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

DATA_VARIABLE = "SPATIALFORMER_TEST_DATA"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real slides; skips where it is not given, fails in CI."""
    value = os.environ.get(DATA_VARIABLE)
    if value and Path(value).is_dir():
        return Path(value)
    reason = f"{DATA_VARIABLE} names no folder with the real slides"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def fixtures_data(shared_data: Path) -> Path:
    """Folder with recorded outputs of the published models, beside the real slides."""
    folder = shared_data.parent / "fixtures"
    if not folder.is_dir():
        pytest.skip(f"no recorded outputs at {folder.name}")
    return folder


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"spatialformer_test_{name}", Path(__file__).with_name(f"{name}.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def bundles() -> ModuleType:
    """Writers of small source folders (``bundles.py`` beside this file)."""
    return _module("bundles")


@pytest.fixture(scope="session")
def published() -> ModuleType:
    """Small files in the form of the published package (``published.py`` beside this file)."""
    return _module("published")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the user's slides."""
    monkeypatch.setenv("SPATIALFORMER_HOME", str(tmp_path / "home"))
