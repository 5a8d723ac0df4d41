"""Which elements of a SpatialData store are the slide, and where they lie in micrometres.

The rule, in the order of its steps:

* **points**: ``transcripts``, else the only element that names genes, else the first by name;
* **table**: ``table``, else the first by name that annotates shapes, else the first by name;
* **cells**: polygons that the table annotates, else ``cell_boundaries``, else polygons with
  ``cell`` in their name, else the only polygons that are no nuclei;
* **nuclei**: polygons with ``nuc`` in their name;
* **images**: all with 8 or 16 bits; of ``morphology_mip`` and ``morphology_focus`` the latter.
  H&E is what has three 8-bit channels and ``he`` as a word of its name, else the only image
  whose three 8-bit channels are called r, g, b.

Whatever was there to choose from is said. Micrometres are the own coordinates of the points
(else of the outlines): stores of Xenium and MERSCOPE keep them so, and their common coordinate
system is pixels. Where somebody states what one unit of the common system is, that is used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spatialformer_core.arrays import DoubleArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import guard
from spatialformer_core.io.records import ImageSource

COMMON = "global"
_HE = re.compile(r"(^|[^a-z])(h[&n]?e|hematoxylin|haematoxylin)([^a-z]|$)", re.IGNORECASE)
_TWINS = ("morphology_mip", "morphology_focus")


@dataclass
class Chosen:
    """The elements that are read.

    Attributes
    ----------
    points, table, cells, circles, nuclei
        Names of elements, None where there is none.
    um_from_common
        3x3 matrix from the common coordinate system to micrometres.
    said
        One sentence per choice that could have been another.
    """

    points: str | None = None
    table: str | None = None
    cells: str | None = None
    circles: str | None = None
    nuclei: str | None = None
    um_from_common: DoubleArray = field(default_factory=lambda: np.eye(3))
    said: list[str] = field(default_factory=list)


def choose(store: Any, um_per_px: float | None, where: str) -> Chosen:
    """Choose the elements of a slide.

    Raises
    ------
    SpatialFormerError
        If its table annotates several regions, or an element lies in no common system.
    """
    chosen = Chosen()
    chosen.points = _one(
        "points",
        sorted(store.points),
        "transcripts",
        lambda n: _names_genes(store.points[n]),
        chosen,
    )
    tables = sorted(store.tables)
    chosen.table = _one("tables", tables, "table", lambda n: bool(regions(store.tables[n])), chosen)
    annotated = regions(store.tables[chosen.table]) if chosen.table else []
    if len(annotated) > 1:
        raise SpatialFormerError(
            f"The table annotates {len(annotated)} regions ({', '.join(annotated)[:120]}); "
            "a slide is one.",
            where=where,
            fix="Save each region as a store of its own, or give the instrument's own folder.",
        )
    polygons = [n for n in sorted(store.shapes) if _is_polygons(store.shapes[n])]
    circles = [n for n in sorted(store.shapes) if n not in polygons]
    nuclei = [n for n in polygons if "nuc" in n.lower()]
    others = [n for n in polygons if n not in nuclei]
    wanted = annotated[0] if annotated and annotated[0] in others else "cell_boundaries"
    chosen.cells = _one("cell outlines", others, wanted, lambda n: "cell" in n.lower(), chosen)
    wanted = annotated[0] if annotated else "cell_circles"
    chosen.circles = _one("circles", circles, wanted, lambda n: "cell" in n.lower(), chosen)
    chosen.nuclei = _one("nuclei", nuclei, "nucleus_boundaries", lambda _: True, chosen)
    chosen.um_from_common = _frame(store, chosen, um_per_px, where)
    return chosen


def regions(table: Any) -> list[str]:
    """Return the names of the elements that a table annotates."""
    found = (table.uns.get("spatialdata_attrs") or {}).get("region")
    if found is None:
        return []
    return [str(found)] if isinstance(found, str) else [str(name) for name in np.ravel(found)]


def to_um(element: Any, chosen: Chosen, where: str) -> DoubleArray:
    """Return the 3x3 matrix from an element's own coordinates to micrometres.

    Raises
    ------
    SpatialFormerError
        If the element is not placed in the common coordinate system.
    """
    matrix: DoubleArray = chosen.um_from_common @ _to_common(element, where)
    # The way to pixels and back rounds; what was given in micrometres stays as it was.
    return np.eye(3) if np.allclose(matrix, np.eye(3), atol=1e-9) else matrix


def apply(matrix: DoubleArray, xy: Any) -> DoubleArray:
    """Return positions, shape ``(m, 2)``, moved by a 3x3 matrix."""
    moved: DoubleArray = np.asarray(xy, np.float64)
    return moved if np.array_equal(matrix, np.eye(3)) else moved @ matrix[:2, :2].T + matrix[:2, 2]


def images(store: Any, chosen: Chosen, where: str) -> list[ImageSource]:
    """Return the images that can be placed and shown; what is left out is said."""
    names = sorted(store.images)
    if all(name in names for name in _TWINS):
        names.remove(_TWINS[0])
        chosen.said.append(f"{_TWINS[0]}: left out, {_TWINS[1]} shows the same.")
    arrays = {name: _full_resolution(store.images[name]) for name in names}
    colour = _he_image(arrays)
    found = []
    for name, array in arrays.items():
        if array.dtype not in (np.uint8, np.uint16) or array.dims != ("c", "y", "x"):
            chosen.said.append(f"{name}: its pixels are {array.dtype}; left out.")
            continue
        if array.shape[0] > guard.MAX_CHANNELS or np.prod(array.shape[1:]) > guard.MAX_PIXELS:
            chosen.said.append(f"{name}: {array.shape} is too large; left out.")
            continue
        found.append(
            ImageSource(
                "he" if name == colour else name,
                "he" if name == colour else "stain",
                (),
                to_um(store.images[name], chosen, where),
                channels=_channels(name, array),
                pixels=array.data,
            )
        )
    return found


def _channels(name: str, array: Any) -> tuple[str, ...]:
    """Return channel names; numbers get the image's name before them."""
    labels = [str(label) for label in array.coords["c"].values]
    if labels == ["0"]:
        return (name,)
    return tuple(f"{name} {label}" if label.isdigit() else label for label in labels)


def _one(what: str, names: list[str], wanted: str, fits: Any, chosen: Chosen) -> str | None:
    """Return the wanted name, else the first that fits, else the first; say what was left."""
    if not names:
        return None
    best = wanted if wanted in names else next((n for n in names if fits(n)), names[0])
    if len(names) > 1:
        left = ", ".join(name for name in names if name != best)
        chosen.said.append(f"Several {what}: {best} is read, not {left[:200]}.")
    return best


def _names_genes(points: Any) -> bool:
    return "feature_key" in points.attrs.get("spatialdata_attrs", {})


def _is_polygons(shapes: Any) -> bool:
    return bool(len(shapes)) and str(shapes.geometry.iloc[0].geom_type).endswith("Polygon")


def _to_common(element: Any, where: str) -> DoubleArray:
    from spatialdata.transformations import get_transformation

    found = get_transformation(element, get_all=True)
    if COMMON not in found:
        raise SpatialFormerError(
            f"An element lies in {', '.join(sorted(found))[:80] or 'no coordinate system'}; "
            f"{COMMON!r} is expected.",
            where=where,
            fix="Set its transformation to 'global' with spatialdata and write the store again.",
        )
    axes = ("x", "y")
    matrix: DoubleArray = np.asarray(found[COMMON].to_affine_matrix(axes, axes), np.float64)
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise SpatialFormerError("A transformation cannot be inverted.", where=where)
    return matrix


def _frame(store: Any, chosen: Chosen, um_per_px: float | None, where: str) -> DoubleArray:
    """Return the matrix from the common coordinate system to micrometres."""
    if um_per_px is not None:
        return np.diag([um_per_px, um_per_px, 1.0])
    own = _carrier(store, chosen)
    if own is None:
        chosen.said.append("The store states no unit: obsm['spatial'] is taken as micrometres.")
        return np.eye(3)
    matrix = _to_common(own, where)
    ours = "spatialformer" in (store.attrs or {})
    if np.array_equal(matrix, np.eye(3)) and not ours:
        chosen.said.append("The store states no unit: its coordinates are taken as micrometres.")
    inverse: DoubleArray = np.linalg.inv(matrix).astype(np.float64)
    return inverse


def _carrier(store: Any, chosen: Chosen) -> Any:
    """Return the element whose own coordinates are micrometres."""
    if chosen.points is not None:
        return store.points[chosen.points]
    name = chosen.cells or chosen.circles
    return None if name is None else store.shapes[name]


def _full_resolution(image: Any) -> Any:
    return image if hasattr(image, "dims") and hasattr(image, "dtype") else _scale0(image)


def _scale0(tree: Any) -> Any:
    return next(iter(tree["scale0"].ds.data_vars.values()))


def _he_image(arrays: dict[str, Any]) -> str | None:
    colour = [n for n, a in arrays.items() if a.dtype == np.uint8 and a.shape[0] == 3]
    named = [n for n in colour if _HE.search(n)]
    if named:
        return named[0]
    rgb = [n for n in colour if [str(c).lower() for c in arrays[n].coords["c"].values] == [*"rgb"]]
    return rgb[0] if len(rgb) == 1 else None
