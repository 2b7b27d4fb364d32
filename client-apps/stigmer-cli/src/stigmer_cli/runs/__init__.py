"""Runs of workflows: how they start, how they are followed, and how they are shown."""
