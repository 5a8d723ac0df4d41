"""The parts of the verb ``screen``: what is knocked out, and a run that can go on."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from spatialformer_core.cli.output import note, terminal_progress
from spatialformer_core.errors import SpatialFormerError

if TYPE_CHECKING:
    from spatialformer_core.service import ScreenRequest, ScreenView, Services

_MAX_BYTES = 8_000_000


def carried_out(  # noqa: PLR0913 - the options that say how, not what
    services: Services,
    request: ScreenRequest,
    checkpoint: Path,
    out: Path,
    *,
    engine: tuple[int, str | None, dict[str, float]],
    shards: int | None,
    resume: bool,
    figures: bool,
) -> ScreenView:
    """Run a screen whose finished shards stay beside ``out`` until it is done.

    Raises
    ------
    SpatialFormerError
        If a stopped screen is there and is not to be resumed, or the screen is refused.
    """
    from spatialformer_core import files
    from spatialformer_core.jobs import Engine
    from spatialformer_core.service.screen import run_screen_request
    from spatialformer_core.service.screen_work import Execution

    kept = out.with_name(f"{out.name}.shards")
    if out.exists():
        raise SpatialFormerError(
            f"{out.name!r} exists already.", str(out.parent), "Choose another name."
        )
    if kept.exists() and not resume:
        raise SpatialFormerError(
            "A screen of this name was stopped before its end.",
            where=str(kept),
            fix="Add --resume to go on with its finished shards, or remove the folder.",
        )
    # Like Ctrl-C: shards in other processes, also on other machines, are told to stop.
    signal.signal(signal.SIGTERM, _interrupt)
    execution = Execution(kept, Engine(*engine), shards, figures)
    try:
        with files.atomic_directory(out) as partial:
            view = run_screen_request(
                services.store,
                request,
                checkpoint,
                partial,
                execution=execution,
                progress=terminal_progress(),
            )
    except KeyboardInterrupt:
        if kept.exists():
            note("Stopped. Finished shards are kept; --resume goes on with them.")
        raise
    shutil.rmtree(kept, ignore_errors=True)
    return view


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def named_genes(text: str | None) -> tuple[str, ...]:
    """Return genes from ``A,B,C``, or from a file, see `gene_lists.genes_of`.

    Raises
    ------
    SpatialFormerError
        If there are none.
    """
    from spatialformer_core.service.gene_lists import genes_of

    if text is None:
        return ()
    path = Path(text)
    is_file = "," not in text and path.is_file()
    genes = genes_of(read_text(path) if is_file else text)
    if not genes:
        raise SpatialFormerError("--genes names no gene.", where=text[:200])
    return genes


def named_sets(path: Path | None) -> dict[str, list[str]]:
    """Return gene sets from JSON ``{name: [genes]}`` or lines, see `gene_lists.sets_of`.

    Raises
    ------
    SpatialFormerError
        If the file is missing, too large, or neither.
    """
    from spatialformer_core import files
    from spatialformer_core.service.gene_lists import sets_of

    if path is None:
        return {}
    if path.suffix.lower() == ".json":
        value = files.read_json(path, _MAX_BYTES)
        if not isinstance(value, dict):
            raise SpatialFormerError("Gene sets must be {name: [genes]}.", where=str(path))
        return value
    return sets_of(read_text(path))


def read_text(path: Path) -> str:
    """Read a small text file that the user names: regions, genes, gene sets.

    Raises
    ------
    SpatialFormerError
        If it is not there, too large or no text.
    """
    if not path.is_file():
        raise SpatialFormerError("The file does not exist.", where=str(path))
    if path.stat().st_size > _MAX_BYTES:
        raise SpatialFormerError(f"The file is larger than {_MAX_BYTES:,} bytes.", where=str(path))
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise SpatialFormerError("The file is no text.", where=str(path)) from error
