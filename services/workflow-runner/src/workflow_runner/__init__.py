"""A Temporal worker that interprets the Open Workflow DSL."""
