"""The Stigmer API server: resources, commands, queries, streams and the engine client."""

import stigmer_grpc  # noqa: F401  # pyright: ignore[reportUnusedImport] - before Temporal's client, which loads gRPC

from stigmer_server.app import App
from stigmer_server.errors import ServerError, SettingsError, StartupError
from stigmer_server.settings import Settings

__all__ = ["App", "ServerError", "Settings", "SettingsError", "StartupError"]
