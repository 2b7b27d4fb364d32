"""How every benchmark prints: one row a measurement, as a ratio to a named peer or limit of the same run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measurement beside what it is held against."""

    name: str
    ours: float
    peer_name: str
    peer: float
    unit: str
    limit: float
    """What `ours / peer` must keep to."""
    at_least: bool = False
    """Whether `limit` is the least the ratio may be; else it is the most."""

    @property
    def ratio(self) -> float:
        """Ours in units of the peer."""
        return self.ours / self.peer

    @property
    def kept(self) -> bool:
        """Whether the ratio keeps to the limit."""
        return self.ratio >= self.limit if self.at_least else self.ratio <= self.limit


def print_rows(title: str, rows: list[Row]) -> None:
    """Print the rows as a table; a row over its limit says MISSED."""
    print(f"\n{title}")
    print(f"{'measurement':44} {'ours':>12} {'against':32} {'theirs':>12} {'ratio':>7} {'limit':>8}")
    for row in rows:
        limit = f"{'≥' if row.at_least else '≤'} {row.limit:g}"
        against = f"{row.peer_name} [{row.unit}]"
        verdict = "ok" if row.kept else "MISSED"
        print(f"{row.name:44} {row.ours:12.3f} {against:32} {row.peer:12.3f} {row.ratio:7.2f} {limit:>8} {verdict}")
