"""``python -m spatialformer_core`` is ``spatialformer``."""

from __future__ import annotations

from spatialformer_core.cli import main

if __name__ == "__main__":
    main()
