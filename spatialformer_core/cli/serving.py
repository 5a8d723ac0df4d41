"""``serve``: the app and its worker."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from spatialformer_core.cli.output import note
from spatialformer_core.errors import SpatialFormerError

_ROOT = Path(__file__).resolve().parents[2]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("serve")(serve)


def serve(
    *,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8501,
    host: Annotated[str, typer.Option(help="Other machines reach it only if you say so.")] = (
        "127.0.0.1"
    ),
) -> None:
    """Open the app on this machine and start the worker that runs its jobs."""
    import uvicorn

    from spatialformer_core.jobs import ensure_worker
    from spatialformer_core.service import open_services

    if not (_ROOT / "app.py").is_file():
        raise SpatialFormerError(
            "The app's files are not beside the package.",
            where="app.py",
            fix="Install from a clone of the repository: pip install -e .",
        )
    _check_free(host, port)
    ensure_worker(open_services().home)
    # app.py imports its pages as a package: their folder must be found wherever this was started.
    sys.path.insert(0, str(_ROOT))
    note(f"SpatialFormer is at http://{'localhost' if host == '127.0.0.1' else host}:{port}")
    uvicorn.run("app:app", host=host, port=port, log_level="warning", app_dir=str(_ROOT))


def _check_free(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SpatialFormerError(
                f"Port {port} cannot be used: {error.strerror}.",
                where=host,
                fix="Stop what runs there or choose another with --port.",
            ) from error
