"""Verbs that read resources, one per module; none changes anything."""
