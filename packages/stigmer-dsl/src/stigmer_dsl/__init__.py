"""The Open Workflow DSL 1.0 for Python: typed model, parser with positions, validation, expressions and data flow."""
