"""How long a person waits for the `stigmer` command.

    python benchmarks/cli.py [--quick]

Each figure is the median of several runs in an empty home; `--quick` takes fewer. The exit code is 1 when one
is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stigmer_cli.testing import Cli

QUICKSTART = str(Path(__file__).parent.parent / "examples" / "quickstart.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    name: str
    seconds: float
    limit: float

    @property
    def is_met(self) -> bool:
        return self.seconds <= self.limit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    repetitions = 3 if parser.parse_args().quick else 9
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Cli(home=Path(folder) / "home"), repetitions)
    print(f"{'what':<44} {'measured':>10} {'limit':>10}")
    for figure in figures:
        verdict = "ok" if figure.is_met else "MISSED"
        print(f"{figure.name:<44} {figure.seconds * 1000:>7.0f} ms {figure.limit * 1000:>7.0f} ms  {verdict}")
    return 0 if all(figure.is_met for figure in figures) else 1


def measure(cli: Cli, repetitions: int) -> list[Figure]:
    def command(*arguments: str) -> Callable[[], None]:
        def call() -> None:
            done = cli.run(*arguments)
            assert done.code == 0, done.err

        return call

    def figure(name: str, limit: float, *arguments: str, times: int = repetitions) -> Figure:
        command(*arguments)()  # warms the disk's cache, which an installed program has warm as well
        return Figure(
            name=name, seconds=statistics.median(timed(command(*arguments)) for _ in range(times)), limit=limit
        )

    few = max(3, repetitions // 3)
    figures = [
        figure("stigmer --help", 0.3, "--help"),
        figure("stigmer version", 0.2, "version"),
        figure("stigmer validate examples/quickstart.yaml", 1.5, "validate", QUICKSTART),
        figure("stigmer get workflows, no stack", 2.0, "get", "workflows"),
        figure("stigmer run examples/quickstart.yaml, no stack", 6.0, "run", QUICKSTART, times=few),
    ]
    up = timed(command("up", "--detach"))
    try:
        figures.append(Figure(name="stigmer up --detach", seconds=up, limit=10.0))
        figures.append(figure("stigmer run examples/quickstart.yaml, stack runs", 1.5, "run", QUICKSTART))
        figures.append(figure("stigmer get workflows, stack runs", 1.0, "get", "workflows"))
        figures.append(figure("stigmer status", 0.3, "status"))
    finally:
        down = timed(command("down"))
    return [*figures, Figure(name="stigmer down", seconds=down, limit=5.0)]


def timed(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
