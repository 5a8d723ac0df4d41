"""Fixtures of the readers' tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _beside(name: str) -> ModuleType:
    """Load a module that lies beside this file."""
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
def xenium_forms() -> ModuleType:
    """Writers of every form of a Xenium folder (``xenium_forms.py`` beside this file)."""
    return _beside("xenium_forms")


@pytest.fixture(scope="session")
def exports() -> ModuleType:
    """Writers of other instruments' exports and of SpatialData stores (``exports.py``)."""
    return _beside("exports")


@pytest.fixture(scope="session")
def all_forms(xenium_forms, bundles, tmp_path_factory):
    """A folder with a small slide in every form; copy from it, never change it."""
    return xenium_forms.build(tmp_path_factory.mktemp("forms") / "all", bundles)
