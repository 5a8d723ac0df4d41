"""SpatialFormer: gene co-occurrence, cell neighbourhoods and gene-pair effects in tissue.

Importing this package is cheap: torch, scanpy and spatialdata are imported by the functions that
need them.
"""

from __future__ import annotations

__version__ = "0.1.0"
