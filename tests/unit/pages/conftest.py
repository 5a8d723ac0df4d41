"""The app in a home of its own: empty, or with the small slide."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def app_slide():
    path = ROOT / "tests" / "app_slide.py"
    spec = importlib.util.spec_from_file_location("spatialformer_test_app_slide", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def source(app_slide, tmp_path_factory):
    return app_slide.write_source(tmp_path_factory.mktemp("roots") / "small")


@pytest.fixture(scope="session")
def root():
    """Folder of app.py."""
    return ROOT
