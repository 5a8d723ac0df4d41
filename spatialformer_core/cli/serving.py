"""``serve``: the app and its worker."""

from __future__ import annotations

import importlib
import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from spatialformer_core.cli.output import note
from spatialformer_core.errors import SpatialFormerError

_ROOT = Path(__file__).resolve().parents[2]
_WITHOUT_LOGIN = "SPATIALFORMER_WITHOUT_LOGIN"


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("serve")(serve)


def serve(
    *,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8501,
    host: Annotated[
        str, typer.Option(help="Another address than this machine's own needs a login.")
    ] = "127.0.0.1",
    without_login: Annotated[
        bool,
        typer.Option(
            "--without-login", help="Let everybody in who reaches the address, as one user."
        ),
    ] = False,
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
    if without_login:
        os.environ[_WITHOUT_LOGIN] = "1"
    # app.py imports its pages as a package: their folder must be found wherever this was started.
    sys.path.insert(0, str(_ROOT))
    app = importlib.import_module("app").app
    _check_login(host, without_login=without_login)
    ensure_worker(open_services().home)
    note(f"SpatialFormer is at http://{'localhost' if host == '127.0.0.1' else host}:{port}")
    uvicorn.run(app, host=host, port=port, log_level="warning")


def _check_login(host: str, *, without_login: bool) -> None:
    # The app's own module knows where Streamlit looks for a login; it is no part of this package.
    identity = importlib.import_module("pages.ui.identity")
    identity.check_secrets()
    if without_login or _is_loopback(host) or identity.login_is_configured():
        return
    raise SpatialFormerError(
        "Without a login the app listens on this machine only.",
        where=f"--host {host}",
        fix="Configure a login in .streamlit/secrets.toml (README, 'Several people'), or give "
        "--without-login where everybody in the network may see the slides and start jobs.",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
