"""Settings of one home folder: allow-listed slide folders and limits (``config.yaml``)."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from spatialformer_core import files
from spatialformer_core.config import FrozenModel, load_recipe
from spatialformer_core.errors import SpatialFormerError

UPLOADS = "uploads"
"""Folder of the home that holds what came through the browser."""


class Limits(FrozenModel):
    """What one user may ask of a shared machine.

    Attributes
    ----------
    max_upload_mb, max_unpacked_mb
        Size of one upload in megabytes, and of what a zip archive may unpack to.
    max_uploads, max_uploads_mb
        How many uploads are kept, and what they take together; 0 allows none.
    """

    max_roi_vertices: int = Field(default=5_000, ge=3)
    max_rois_per_slide: int = Field(default=200, ge=1)
    max_sources: int = Field(default=500, ge=1)
    max_upload_mb: int = Field(default=200, ge=1, le=10_000)
    max_unpacked_mb: int = Field(default=2_000, ge=1, le=100_000)
    max_uploads: int = Field(default=100, ge=0)
    max_uploads_mb: int = Field(default=20_000, ge=0)


class AppConfig(FrozenModel):
    """The app's settings.

    Attributes
    ----------
    slide_roots
        Absolute folders whose sub-folders and files may be registered as slides, beside
        ``sources`` in the home folder.
    limits
        What one user may ask for.
    default_owner
        Owner of jobs where nobody logs in (one user on a laptop).
    """

    slide_roots: tuple[Path, ...] = ()
    limits: Limits = Limits()
    default_owner: str = Field(default="local", min_length=1, max_length=64)


def load_config(home: Path) -> AppConfig:
    """Read ``config.yaml`` of a home folder; without one the defaults hold.

    Raises
    ------
    SpatialFormerError
        If the file is invalid or a root is not absolute.
    """
    path = home / "config.yaml"
    config = load_recipe(path, AppConfig) if path.exists() else AppConfig()
    for root in config.slide_roots:
        if not root.is_absolute():
            raise SpatialFormerError(
                f"The slide root {str(root)!r} is not absolute.",
                where=str(path),
                fix="Write the whole path, beginning with '/'.",
            )
    return config


def source_roots(home: Path, config: AppConfig) -> tuple[Path, ...]:
    """Return the folders whose content may be registered: the home's own first, uploads last."""
    return (home / "sources", *config.slide_roots, home / UPLOADS)


def open_home(home: Path | None) -> Path:
    """Return the home folder, created if it is new."""
    folder = (home or files.home()).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
