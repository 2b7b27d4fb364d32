"""Workspaces in sandboxes of Daytona, over its public HTTP API."""
