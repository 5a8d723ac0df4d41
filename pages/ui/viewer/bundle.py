"""The viewer's built JavaScript: where it is, and the name that changes whenever its bytes do."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

BUNDLE = Path(__file__).parent / "dist" / "viewer.js"
PREFIX = "sf"
"""First part of every address that the viewer asks for."""


@functools.cache
def bundle_hash() -> str:
    """Return the first 12 hex digits of the bundle's SHA-256 (the cache key of browsers)."""
    return hashlib.sha256(BUNDLE.read_bytes()).hexdigest()[:12]


def bundle_url() -> str:
    """Return the bundle's address relative to the page's base address."""
    return f"{PREFIX}/viewer-{bundle_hash()}.js"
