"""The `stigmer` command: runs agents and workflows on one machine with nothing else installed."""

__version__ = "0.1.0"
