"""The results of a section of the device check."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor


@dataclass
class Context:
    """The device and the deadline of a section, and its results.

    Attributes:
        device: ``'cuda'`` or ``'cpu'``.
        out: Folder for logs and results.
        deadline: ``time.time()`` by which the section should end.
        checks: One dict per check: ``name``, ``status`` (``'passed'``, ``'failed'`` or
            ``'skipped'``), ``measured``, ``bound``.
        tables: Named lists of rows (dicts), such as throughput.
        info: Facts without a verdict, such as versions.
    """

    device: str
    out: Path
    deadline: float
    checks: list[dict] = field(default_factory=list)
    tables: dict[str, list[dict]] = field(default_factory=dict)
    info: dict = field(default_factory=dict)

    @property
    def is_toy(self) -> bool:
        """Whether everything runs at toy size, since there is no GPU."""
        return self.device == 'cpu'

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.time()

    def add(self, name: str, passed: bool, measured=None, bound=None) -> None:
        """Records a check."""
        status = 'passed' if passed else 'failed'
        self.checks.append(dict(name=name, status=status, measured=measured, bound=bound))

    def add_error(self, name: str, error: float, bound: float) -> None:
        """Records a relative error, which must be at most ``bound``; NaN fails."""
        self.add(name, error <= bound, error, bound)

    def skip(self, name: str, reason: str) -> None:
        """Records a check that cannot run here."""
        self.checks.append(dict(name=name, status='skipped', measured=reason, bound=None))


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Computes ``||actual - expected|| / ||expected||`` (L2 norms) in float64 on the CPU."""
    actual, expected = actual.detach().double().cpu(), expected.detach().double().cpu()
    norm = torch.linalg.vector_norm
    return (norm(actual - expected) / norm(expected)).item()
