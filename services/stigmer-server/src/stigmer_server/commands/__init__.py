"""Verbs that change resources, one per module; none knows a kind by name, except what skills alone have."""
