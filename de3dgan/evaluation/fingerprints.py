"""Recordings that have moments in common, found in a time that grows with their number.

Programs that name a song from a noisy recording look up what stands out in it, instead of comparing
it with all songs (Wang 2003); earthquakes that look like earlier ones are found in the same way
(Yoon et al. 2015).

A *moment* is where a sum of a recording's traces is larger than anywhere around it: it is the same
in a copy, whatever came before. Its *print* says what the traces do around it, as signs of random
projections (Charikar 2002): moments that are alike have the same print, others seldom. Noise turns
signs of small projections first, so that prints with these turned are looked up, too (Lv et al.
2007). Recordings have something in common if they share several prints, as much later each.

References
----------
Charikar 2002, "Similarity estimation techniques from rounding algorithms", Proceedings of the 34th
Annual ACM Symposium on Theory of Computing, 380-388.
Lv et al. 2007, "Multi-probe LSH: efficient indexing for high-dimensional similarity search",
Proceedings of the 33rd International Conference on Very Large Data Bases, 950-961.
Wang 2003, "An industrial-strength audio search algorithm", Proceedings of the 4th International
Conference on Music Information Retrieval, 7-13.
Yoon et al. 2015, "Earthquake detection through computationally efficient similarity search",
Science Advances 1, e1501057.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.ndimage import maximum_filter1d

from de3dgan.data.frames import chunks

#: Tables of prints. Each has sums and projections of its own.
_N_TABLES = 16
#: Samples on either side of a moment: within which it stands out, and those that its print is of.
_AROUND, _LAGS = 32, np.arange(-8, 9, 2)
#: Signs of a print; `_N_SIGNS_MORE` than number the moments of a table, so that few are alike by
#: chance.
_N_SIGNS, _N_SIGNS_MORE = (12, 30), 4
#: The least certain signs of a print, that are turned to look up more.
_N_TURNED = 3
#: Samples by which moments in common may differ in how much later they are.
_SHIFTS = 4
#: Prints in common from which recordings are alike.
_FEWEST = 3
#: Recordings whose prints are taken at a time.
_CHUNK = 32


def alike(
    traces_of: Callable[[np.ndarray], np.ndarray], ours: np.ndarray, theirs: np.ndarray
) -> dict[int, list[tuple[int, int]]]:
    """Return which recordings have prints in common.

    Parameters
    ----------
    traces_of : callable
        Returns the traces of some rows, (n, n_traces, n_times), at 64 Hz.
    ours, theirs : array of int
        Rows.

    Returns
    -------
    dict
        For each of `ours`, of which of `theirs` it has some: how many, and the row.

    Notes
    -----
    Memory grows with `ours`, by 15 KiB for a minute; time with `ours` and with `theirs`.
    """
    found: dict[int, list[tuple[int, int]]] = {row: [] for row in ours.tolist()}
    kinds = _kinds(traces_of(ours[:_CHUNK]), len(ours))
    parts: list[list[tuple[np.ndarray, ...]]] = [[] for _ in kinds]
    for first, rows in zip(range(0, len(ours), _CHUNK), chunks(ours, _CHUNK), strict=True):
        traces = traces_of(rows)
        for kind, part in zip(kinds, parts, strict=True):
            prints, owners, times = kind.prints(traces)
            part.append((prints, owners + first, times))
    tables = [_sorted(part) for part in parts]
    for rows in chunks(theirs, _CHUNK):
        traces = traces_of(rows)
        pairs = [
            _in_common(table, *kind.prints(traces, _N_TURNED))
            for kind, table in zip(kinds, tables, strict=True)
        ]
        pairs, n_common = np.unique(np.concatenate(pairs), axis=0, return_counts=True)
        enough = n_common >= _FEWEST
        for (our, their, _), n in zip(pairs[enough], n_common[enough], strict=True):
            found[int(ours[our])].append((int(n), int(rows[their])))
    return found


@dataclass(frozen=True)
class _Kind:
    """How the prints of one table are taken.

    Attributes
    ----------
    weights : array, (n_traces,)
        Of the traces, in the sum whose largest values are moments.
    planes : array, (n_lags * n_traces, n_signs)
        On which what the traces do around a moment is projected.
    usual : array, (n_signs,)
        What that is on average: it is the same in all recordings, and counts for nothing.
    """

    weights: np.ndarray
    planes: np.ndarray
    usual: np.ndarray | float = 0.0

    def projections(self, traces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return projections of all moments, (n, n_signs); whose they are, and when."""
        sums = np.tensordot(self.weights, traces, (0, 1))
        loud = np.abs(sums)
        moments = (loud > 0) & (loud == maximum_filter1d(loud, 2 * _AROUND + 1, mode="constant"))
        moments[:, : -_LAGS[0]] = moments[:, traces.shape[-1] - _LAGS[-1] :] = False
        owners, times = np.nonzero(moments)
        around = traces[owners[:, None], :, times[:, None] + _LAGS].reshape(len(owners), -1)
        around *= np.sign(sums[owners, times])[:, None]  # a copy may have the other sign
        return around @ self.planes - self.usual, owners, times

    def prints(
        self, traces: np.ndarray, n_turned: int = 0
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return prints (n, 2 ** n_turned), of which the first has no sign turned; whose; when."""
        projections, owners, times = self.projections(traces)
        values = 1 << np.arange(projections.shape[1], dtype=np.int64)
        weakest = np.argsort(np.abs(projections), 1)[:, :n_turned]
        which = np.array(list(product([0, 1], repeat=n_turned)), np.int64)
        return ((projections > 0) @ values)[:, None] ^ values[weakest] @ which.T, owners, times


def _kinds(example: np.ndarray, n_recordings: int) -> list[_Kind]:
    """Return how prints are taken, for so many recordings with traces like those of the example."""
    n_moments = n_recordings * example.shape[-1] / (2 * _AROUND)
    n_signs = int(np.clip(np.log2(n_moments) + _N_SIGNS_MORE, *_N_SIGNS))
    rng, kinds = np.random.default_rng(0), []
    for _ in range(_N_TABLES):
        weights = rng.standard_normal(example.shape[1], np.float32)
        planes = rng.standard_normal((len(_LAGS) * len(weights), n_signs), np.float32)
        projections, *_ = _Kind(weights, planes).projections(example)
        kinds.append(_Kind(weights, planes, projections.mean(0) if len(projections) else 0.0))
    return kinds


def _sorted(parts: Iterable[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    """Return a table, sorted: prints, whose they are, and when."""
    prints, owners, times = map(np.concatenate, zip(*parts, strict=True))
    order = np.argsort(prints[:, 0], kind="stable")
    return prints[order, 0], owners[order].astype(np.int32), times[order].astype(np.int32)


def _in_common(
    table: tuple[np.ndarray, ...], prints: np.ndarray, owners: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """Return whose moments have the same print, theirs, and how much later: (n, 3)."""
    known, our_owners, our_times = table
    first, end = (np.searchsorted(known, prints.ravel(), side) for side in ("left", "right"))
    n = end - first
    theirs = np.repeat(np.arange(prints.size) // prints.shape[1], n)
    ours = np.arange(n.sum()) + np.repeat(first - np.cumsum(n) + n, n)
    later = np.round((times[theirs] - our_times[ours]) / _SHIFTS).astype(int)
    return np.stack([our_owners[ours], owners[theirs], later], 1)
