"""The API server inside the process of the command: the one component of a stack that is no child process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from loguru import logger

from stigmer_cli.environment import Auth, Home
from stigmer_cli.errors import InvalidInputError, UnavailableError
from stigmer_cli.stack.logs import RotatingLog
from stigmer_cli.stack.ports import choose_port

if TYPE_CHECKING:
    from stigmer_grpc.channel import Channel
    from stigmer_server.app import App
    from stigmer_server.settings import Settings

NOT_ENTERED = "used before it was entered"
PREFERRED_PORT = 7234
PREFERRED_HTTP_PORT = 8081


class EmbeddedServer:
    """The server on a home's database. An async context manager: ready when entered, drained when left.

    Args:
        home: Whose database and files to serve.
        temporal_address: Where the engine connects, as soon as it can; empty for a server that runs nothing.
        namespace: Which namespace of it the engine uses.
        log: Where the server's log goes; None discards it.
        auth: `token` asks those who call over a socket for one of the tokens in the home, which are made when they are
            not there; `none` lets in everybody. Calls in process are let in anyway.
    """

    def __init__(
        self,
        home: Home,
        *,
        temporal_address: str = "",
        namespace: str = "default",
        log: RotatingLog | None = None,
        auth: Auth = "none",
    ) -> None:
        self._auth: Auth = auth
        self._home = home
        self._temporal_address = temporal_address
        self._namespace = namespace
        self._log = log
        self._app: App | None = None
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> EmbeddedServer:
        # The import takes most of a second, which children that start at the same time need not wait for.
        app_type, settings_type = await asyncio.to_thread(_load)
        with suppress(ValueError):
            # loguru's own handler, which writes everything to the terminal from the moment it is imported.
            logger.remove(0)
        if self._log is not None:
            self._exit.enter_context(_Logging(self._log))
        settings = self._settings(settings_type)
        with _told():
            self._app = await self._exit.enter_async_context(app_type(settings, engine=bool(self._temporal_address)))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._exit.aclose()

    async def serve(self, address: str) -> None:
        """Listen on host:port as well as inside the process."""
        with _told():
            await self._entered.serve(address)

    async def serve_http(self) -> str:
        """Offer HTTP as the server's variables say, else at a free port, and return the URL; "" when they say no."""
        if self._entered.settings.http_port == "auto":
            address = await self._serve_http_somewhere()
        else:
            with _told():
                address = await self._entered.serve_http()
        return f"http://{address}" if address else ""

    async def _serve_http_somewhere(self) -> str:
        from stigmer_server.errors import StartupError

        with suppress(StartupError):
            return await self._entered.serve_http(port=choose_port(PREFERRED_HTTP_PORT))
        # Somebody has taken the port since it was looked at: a server that is no stack, and so claims none.
        with _told():
            return await self._entered.serve_http(port=0)

    def channel(self) -> Channel:
        """Return a channel that needs no socket."""
        return self._entered.channel()

    def _settings(self, settings_type: type[Settings]) -> Settings:
        """Return the server's settings: ours, and for the rest what its own variables say."""
        engine: dict[str, Any] = {}
        if self._temporal_address:
            engine = {"temporal_address": self._temporal_address, "temporal_namespace": self._namespace}
        try:
            return settings_type(
                db_path=self._home.database,
                storage_path=self._home.storage,
                auth=self._auth,
                token_file=self._home.token,
                runner_token_file=self._home.runner_token,
                **engine,
            )
        except ValueError as error:
            msg = f"a variable in the environment does not suit the server: {error}"
            raise InvalidInputError(msg, hint="correct or unset it; `stigmer-server --help` tells them all") from error

    @property
    def _entered(self) -> App:
        if self._app is None:
            raise RuntimeError(NOT_ENTERED)
        return self._app


@contextmanager
def _told() -> Generator[None]:
    """Turn what keeps the server from starting into an error of this command."""
    from stigmer_server.errors import StartupError

    try:
        yield
    except StartupError as error:
        msg = f"the server cannot start: {error}"
        raise UnavailableError(msg, hint="`stigmer status` shows what runs here already") from error


def _load() -> tuple[type[App], type[Settings]]:
    from stigmer_server.app import App
    from stigmer_server.settings import Settings

    return App, Settings


class _Logging:
    """Sends what the server and its libraries log to a component's log, for as long as it is entered."""

    def __init__(self, log: RotatingLog) -> None:
        self._log = log
        self._sink = 0
        self._handler = _Handler(log)

    def __enter__(self) -> None:
        # Without `diagnose`, which would write the values of variables into the log, secrets among them.
        self._sink = logger.add(
            self._write, level="INFO", format="{level} {name}: {message}", backtrace=False, diagnose=False
        )
        logging.getLogger().addHandler(self._handler)

    def __exit__(self, *error: object) -> None:
        logger.remove(self._sink)
        logging.getLogger().removeHandler(self._handler)
        self._log.close()

    def _write(self, text: str) -> None:
        for line in text.rstrip("\n").split("\n"):
            self._log.write(line)


class _Handler(logging.Handler):
    """Takes what libraries say through the standard logging module."""

    def __init__(self, log: RotatingLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        for line in f"{record.levelname} {record.name}: {self.format(record)}".split("\n"):
            self._log.write(line)
