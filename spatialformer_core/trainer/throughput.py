"""How much work a step is, and how well the device is used."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch

from spatialformer_core.model import ModelConfig

PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12}
"""Dense bfloat16 tensor-core peak by part of the device's name, as NVIDIA's data sheets state."""

_FORWARD_AND_BACKWARD = 3


def flops_per_token(config: ModelConfig, length: float) -> float:
    """Return the floating-point operations of one token's way forward through the blocks.

    A multiplication with its addition counts as two. Heads and embeddings are left out: they are
    small beside the blocks and run on few tokens.

    Parameters
    ----------
    length
        Tokens of its sequence, which attention looks at.
    """
    d, inner = config.dim, config.dim * config.expansion
    feed_forward = 2 * (d * inner + inner // 2 * d)
    convolution = 2 * (d * 2 * d + config.conv_kernel * d + d * d) + feed_forward
    attention = 2 * (3 * d * d + d * d) + 4 * length * d + feed_forward
    return float(config.n_blocks * (convolution + attention))


@dataclass
class Meter:
    """Pace since the last reading.

    Attributes
    ----------
    config
        Of the network.
    device
        Whose peak the utilisation is relative to.
    """

    config: ModelConfig
    device: torch.device
    pairs: int = 0
    tokens: int = 0
    flops: float = 0.0
    _since: float = field(default_factory=time.monotonic)

    def add(self, n_pairs: int, n_tokens: int, n_sequences: int) -> None:
        """Count a step."""
        self.pairs += n_pairs
        self.tokens += n_tokens
        each = flops_per_token(self.config, n_tokens / max(n_sequences, 1))
        self.flops += _FORWARD_AND_BACKWARD * each * n_tokens

    def read(self) -> dict[str, float]:
        """Return the pace since the last reading and begin anew."""
        seconds = max(time.monotonic() - self._since, 1e-9)
        values = {
            "pairs_per_s": self.pairs / seconds,
            "tokens_per_s": self.tokens / seconds,
            "tflops": self.flops / seconds / 1e12,
        }
        peak = peak_flops(self.device)
        if peak is not None:
            values["mfu"] = self.flops / seconds / peak
        if self.device.type == "cuda":
            values["memory_gb"] = torch.cuda.max_memory_allocated(self.device) / 1e9
        self.pairs = self.tokens = 0
        self.flops, self._since = 0.0, time.monotonic()
        return values


def peak_flops(device: torch.device) -> float | None:
    """Return the peak of a known GPU, None for others: no utilisation is made up for them."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)
