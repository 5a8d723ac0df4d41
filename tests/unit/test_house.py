"""The limits of the house that no linter checks."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for part in ("spatialformer_core", "pages", "training")
    for path in (ROOT / part).rglob("*.py")
    if "node_modules" not in path.parts
)


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of code; a docstring that names shapes, units and errors shall cost nothing."""
    first = function.body[0]
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    text = (first.end_lineno or 0) - first.lineno + 1 if is_text else 0
    return (function.end_lineno or 0) - function.lineno + 1 - text


@pytest.mark.parametrize(
    "path", [*SOURCES, ROOT / "app.py"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text("utf-8")
    lines = len(text.splitlines())
    is_page = path.parent == ROOT / "pages"
    assert lines <= (60 if path.name == "app.py" else 120 if is_page else 400), lines
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = _lines(node)
            assert length <= 60, f"{node.name} has {length} lines"


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_pins_are_exact_and_portable(name: str) -> None:
    pins = [
        line
        for line in (ROOT / name).read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    assert len(pins) > 100
    for pin in pins:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", pin), pin
    assert any(pin.startswith("torch==") for pin in pins)


def test_importing_the_core_is_cheap() -> None:
    code = (
        "import sys, spatialformer_core;"
        "bad = {'torch', 'scanpy', 'spatialdata', 'anndata', 'torch_geometric', 'pandas'};"
        "sys.exit(','.join(bad & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_only_one_file_opens_files_for_writing() -> None:
    opens = re.compile(r"""\.(open|write_text|write_bytes)\(\s*["']?[wax]|\.write_(text|bytes)\(""")
    offenders = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if path != ROOT / "spatialformer_core" / "files.py"
        and path.is_relative_to(ROOT / "spatialformer_core")
        and opens.search(path.read_text("utf-8"))
    ]
    assert offenders == []
