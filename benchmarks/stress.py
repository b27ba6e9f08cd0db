"""Kill, starve and feed garbage to the program, as a year on a shared machine would.

    .venv/bin/python benchmarks/stress.py

Writes benchmarks/STRESS.md. Each part can be run alone: stress_kill.py, stress_disk.py,
stress_files.py, stress_chains.py. The short form of each is in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows with the same keys as a Markdown table."""
    lines = [rows[0], dict.fromkeys(rows[0], "---"), *(row.values() for row in rows)]
    cells = [line if not isinstance(line, Mapping) else line for line in lines]
    cells[1] = cells[1].values()
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in cells)
