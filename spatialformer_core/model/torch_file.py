"""Reading other people's torch files without executing any of their pickle.

``torch.load(weights_only=True)`` builds tensors and plain containers only. A Lightning checkpoint
also holds a few numpy scalars (learning rates) and Lightning's own dict; for those, and for nothing
else, harmless stand-ins are built here, so that no numpy or Lightning code runs on their bytes.
"""

from __future__ import annotations

import math
import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spatialformer_core.errors import SpatialFormerError

_MAX_BYTES = 16 << 30
_MAX_KEYS = 100_000
_MAX_FACTS = 200
_MAX_TEXT = 128
_FIX = (
    "Give the file as it was published. A file with objects of other programs can be reduced to "
    "its weights in the environment that wrote it: torch.save({'state_dict': ...}, 'weights.pt')."
)


class _Dtype:
    """Stands for a numpy dtype; keeps its code alone."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code = code if isinstance(code, str) else ""

    def __setstate__(self, state: Any) -> None:
        del state


def _scalar(dtype: Any = None, raw: Any = b"", *_: Any) -> float | None:
    """Stands for numpy's scalar constructor: a double becomes a float, all else None."""
    code = dtype.code if isinstance(dtype, _Dtype) else ""
    if code.endswith("f8") and isinstance(raw, bytes) and len(raw) == 8:
        return float(struct.unpack("<d", raw)[0])
    return None


STAND_INS: tuple[tuple[Any, str], ...] = (
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    (_Dtype, "numpy.dtype"),
    (_Dtype, "numpy.dtypes.Float64DType"),
    (_Dtype, "numpy.dtype[float64]"),
    (dict, "pytorch_lightning.utilities.parsing.AttributeDict"),
    (dict, "lightning.pytorch.utilities.parsing.AttributeDict"),
    (dict, "lightning_fabric.utilities.data.AttributeDict"),
    (dict, "lightning.fabric.utilities.data.AttributeDict"),
)
"""Names that a file may use beyond torch's own, and what is built in their place."""


@dataclass(frozen=True, slots=True)
class TorchFile:
    """What was found in a torch file.

    Attributes
    ----------
    state
        Weights by name.
    facts
        What a Lightning wrapper says beside them: ``hyper_parameters`` (flat, with those of its
        ``outer_config``), ``global_step``, ``resumed`` (True if its optimiser state was emptied,
        which the published ``prepare_extended_checkpoint`` does). Empty for a bare state dict.
    """

    state: dict[str, Tensor]
    facts: dict[str, Any]


def read_torch_file(path: Path) -> TorchFile:
    """Read weights; nothing in the file is executed.

    Parameters
    ----------
    path
        A state dict or a Lightning checkpoint, written by ``torch.save``.

    Raises
    ------
    SpatialFormerError
        If the file is missing, too large, truncated, or holds other things than weights.
    """
    if not path.is_file():
        raise SpatialFormerError("There is no such file.", where=str(path))
    if not 0 < path.stat().st_size <= _MAX_BYTES:
        raise SpatialFormerError("The file is empty or larger than 16 GB.", where=path.name)
    loaded = _load(path)
    content = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(content, Mapping) or not content or len(content) > _MAX_KEYS:
        raise SpatialFormerError("The file holds no named weights.", where=path.name, fix=_FIX)
    odd = [key for key, v in content.items() if not isinstance(key, str) or type(v) is not Tensor]
    if odd:
        raise SpatialFormerError(
            f"The file holds {len(odd)} entries that are no weights, the first is "
            f"{str(odd[0])[:80]!r}.",
            where=path.name,
            fix=_FIX,
        )
    wrapper = loaded if content is not loaded else {}
    return TorchFile(dict(content), _facts(wrapper))


def _load(path: Path) -> Any:
    # Only the zip form can be mapped, and only what is read of it costs memory.
    is_zip = zipfile.is_zipfile(path)
    try:
        with torch.serialization.safe_globals(list(STAND_INS)):
            return torch.load(  # noqa: TID251 (the one place, weights only)
                path, map_location="cpu", weights_only=True, mmap=is_zip
            )
    except pickle.UnpicklingError as error:
        raise SpatialFormerError(
            "The file holds more than weights, or is damaged: "
            f"{str(error).strip().splitlines()[-1][:200]}",
            where=path.name,
            fix=_FIX,
        ) from error
    except (  # A damaged file ends in one of these, according to where the damage lies.
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        OSError,
    ) as error:
        raise SpatialFormerError(
            f"The file is truncated or no torch file: {str(error).strip().splitlines()[0][:200]}",
            where=path.name,
            fix="Fetch it again.",
        ) from error


def _is_fact(value: Any) -> bool:
    """Tell whether a setting is worth keeping: a number or a word, no path of somebody's disk."""
    if isinstance(value, str):
        return len(value) <= _MAX_TEXT and "/" not in value
    return isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))


def _facts(wrapper: Mapping[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    hyper = wrapper.get("hyper_parameters")
    if isinstance(hyper, Mapping):
        outer = hyper.get("outer_config")
        # What the network was built with stands above the file of settings it came from.
        both = {**(outer if isinstance(outer, Mapping) else {}), **hyper}
        facts["hyper_parameters"] = {
            str(k)[:_MAX_TEXT]: v for k, v in list(both.items())[:_MAX_FACTS] if _is_fact(v)
        }
    step = wrapper.get("global_step")
    if isinstance(step, int):
        facts["global_step"] = step
    optimisers = wrapper.get("optimizer_states")
    if isinstance(optimisers, list) and optimisers and isinstance(optimisers[0], Mapping):
        facts["resumed"] = not optimisers[0].get("state")
    return facts
