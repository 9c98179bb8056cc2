"""Which batch sizes to try, and which one to suggest. Plain arithmetic, no torch.

The suggestion is the smallest size within 5 % of the best throughput: a larger one costs memory
and leaves fewer steps per epoch, and gains nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from litscope.console import table_lines

CLOSE_ENOUGH = 0.95
"""Share of the best throughput at which a size counts as just as fast."""


@dataclass(frozen=True)
class Probe:
    """One size that was tried.

    Attributes:
        fits: whether a training step fitted in memory.
        samples_per_s: training steps only, without loading; None when it did not fit.
        memory_bytes: memory of one step (on a GPU the peak, on a CPU counted); None if unknown.
    """

    size: int
    fits: bool
    samples_per_s: float | None
    memory_bytes: int | None


@dataclass(frozen=True)
class BatchSizeResult:
    """The sizes tried, in ascending order, and what follows.

    Attributes:
        largest: the largest size that was seen to fit; None if not even the first did.
        limit: what ended the search: "memory", "throughput" (larger sizes gained nothing) or "data".
        suggestion: the smallest size within 5 % of the best throughput, or None.
        budget_bytes: the memory that was allowed on a CPU, or None.
    """

    probes: list[Probe]
    largest: int | None
    limit: Literal["memory", "throughput", "data"]
    suggestion: int | None
    budget_bytes: int | None

    def lines(self) -> list[str]:
        """The result as a table and two sentences."""
        rows = []
        for p in self.probes:
            speed = f"{p.samples_per_s:,.0f}" if p.samples_per_s is not None else "-"
            memory = f"{p.memory_bytes / 2**20:,.0f} MiB" if p.memory_bytes is not None else "-"
            rows.append([p.size, speed, memory, "" if p.fits else "does not fit"])
        lines = table_lines(["batch size", "samples/s", "memory", ""], rows, right=["samples/s", "memory"])
        within = f" in the {self.budget_bytes / 2**30:.1f} GiB allowed" if self.budget_bytes is not None else ""
        if self.suggestion is None:
            return [*lines, f"Not even {self.probes[0].size} fits{within}. Use a smaller --image-size or model."]
        largest = {
            "memory": f"largest that fits{within}: {self.largest}",
            "throughput": f"{self.largest} fits{within}; larger ones are not faster and were not tried",
            "data": f"{self.largest} fits{within}; with larger ones an epoch would have too few steps",
        }[self.limit]
        return [*lines, f"suggested batch size {self.suggestion}: the smallest within 5 % of the best speed", largest]

    def to_dict(self) -> dict[str, Any]:
        """The result in plain values, for --json."""
        return {
            "suggestion": self.suggestion,
            "largest": self.largest,
            "limit": self.limit,
            "budget_bytes": self.budget_bytes,
            "sizes": [
                {
                    "batch_size": p.size,
                    "fits": p.fits,
                    "samples_per_s": p.samples_per_s,
                    "memory_bytes": p.memory_bytes,
                }
                for p in self.probes
            ],
        }


def search(probe: Callable[[int], Probe], *, start: int, most: int, budget_bytes: int | None = None) -> BatchSizeResult:
    """Double from `start` until a size does not fit, gains nothing, or exceeds `most`; then bisect.

    With a budget, a size that would not fit by extrapolation from the last one is not run.

    Args:
        probe: runs one size.
        start, most: first and largest size.
        budget_bytes: memory allowed, where running out must not happen.
    """
    done: dict[int, Probe] = {}

    def fits(size: int) -> bool:
        done[size] = _foreseen(size, done, budget_bytes) or probe(size)
        return done[size].fits

    size, limit = min(start, most), "data"
    while True:
        if not fits(size):
            limit = "memory"
            break
        if _has_levelled_off(done):
            limit = "throughput"
            break
        if size >= most:
            break
        size = min(2 * size, most)
    if limit == "memory":
        _bisect(fits, largest_fitting(done) or 0, size)
    probes = [done[s] for s in sorted(done)]
    return BatchSizeResult(probes, largest_fitting(done), limit, _fastest(probes), budget_bytes)  # type: ignore[arg-type]


def largest_fitting(done: dict[int, Probe]) -> int | None:
    """The largest size that fitted."""
    return max((size for size, p in done.items() if p.fits), default=None)


def _bisect(fits: Callable[[int], bool], low: int, high: int) -> None:
    """Narrow (fits, does not fit) down to an eighth of the lower one."""
    while high - low > max(1, low // 8):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)


def _foreseen(size: int, done: dict[int, Probe], budget_bytes: int | None) -> Probe | None:
    """A size whose memory, in proportion to the two largest that ran, is above the budget."""
    ran = sorted((p.size, p.memory_bytes) for p in done.values() if p.fits and p.memory_bytes is not None)
    if budget_bytes is None or len(ran) < 2 or size <= ran[-1][0]:
        return None
    (size_a, bytes_a), (size_b, bytes_b) = ran[-2:]
    expected = bytes_b + (bytes_b - bytes_a) / (size_b - size_a) * (size - size_b)
    return Probe(size, False, None, int(expected)) if expected > budget_bytes else None


def _has_levelled_off(done: dict[int, Probe]) -> bool:
    """Whether the last two sizes brought less than 5 % over the best before them."""
    speeds = [done[s].samples_per_s or 0.0 for s in sorted(done)]
    return len(speeds) >= 4 and max(speeds[-2:]) * CLOSE_ENOUGH < max(speeds[:-2])


def _fastest(probes: list[Probe]) -> int | None:
    """The smallest size within 5 % of the best throughput."""
    fitting = [p for p in probes if p.fits and p.samples_per_s is not None]
    best = max((p.samples_per_s or 0.0 for p in fitting), default=0.0)
    return next((p.size for p in fitting if (p.samples_per_s or 0.0) >= CLOSE_ENOUGH * best), None)
