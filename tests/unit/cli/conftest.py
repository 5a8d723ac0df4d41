"""The command line within this process."""

from __future__ import annotations

import pytest

from spatialformer_core.cli import main


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line; returns exit code, stdout and stderr."""

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["spatialformer", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return call
