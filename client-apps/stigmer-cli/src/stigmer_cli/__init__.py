"""The stigmer command: runs agents and workflows on one machine with nothing else installed."""
