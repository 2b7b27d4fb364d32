"""The Stigmer API server: resources, commands, queries, streams and the engine client."""

from stigmer_server.app import App
from stigmer_server.errors import ServerError, SettingsError, StartupError
from stigmer_server.settings import Settings

__all__ = ["App", "ServerError", "Settings", "SettingsError", "StartupError"]
