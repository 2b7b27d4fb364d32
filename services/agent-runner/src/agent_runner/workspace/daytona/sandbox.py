"""A session's sandbox at Daytona: found by its name, made when first needed, started when it was stopped."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import shlex
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from stigmer_sandbox import SandboxUnavailableError, beneath, supervised

from agent_runner.workspace.daytona.api import Box, DaytonaApi, DaytonaError
from agent_runner.workspace.daytona.settings import DaytonaSettings

PLACE = "/tmp/.stigmer"  # noqa: S108 - of a sandbox that is the session's alone
"""Where what is ours crosses: programs, requests, files on their way."""
_PROGRAMS = tuple(
    (f"{PLACE}/{path.stem}-{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}.py", path)
    for path in (supervised.PROGRAM, Path(beneath.__file__))
)
SUPERVISOR, FILES = (" ".join((*supervised.PYTHON, place)) for place, _ in _PROGRAMS)
"""How they are run."""
_BROKEN = frozenset({"error", "build_failed", "unknown"})
_GONE = frozenset({"destroying", "destroyed"})
_STOPPED = frozenset({"stopped", "archived", "paused"})
_QUICK_SECONDS = 60.0
LABELS = {"ai.stigmer.managed": "agent-runner"}


class DaytonaSandbox:
    """One session's sandbox.

    Args:
        api: The API.
        settings: How sandboxes are made.
        name: What it is called.
        network: Whether it has the network.
        delete_minutes: After how long stopped it is deleted.
    """

    def __init__(
        self, api: DaytonaApi, settings: DaytonaSettings, name: str, *, network: bool, delete_minutes: int
    ) -> None:
        self.api = api
        self.name = name
        self.folder = settings.folder
        self._settings = settings
        self._network = network
        self._delete_minutes = delete_minutes
        self._ready: Box | None = None
        self._seen: Box | None = None
        self._readying = asyncio.Lock()

    @property
    def id(self) -> str:
        """What Daytona calls it; "" when it is not known yet."""
        return self._ready.id if self._ready else ""

    async def exists(self) -> bool:
        """Whether there is one. Raises: DaytonaError."""
        if self._ready is None:
            # Who asks begins to use it then: it need not be looked for again.
            self._seen = await self.api.find(self.name)
        box = self._ready or self._seen
        return box is not None and box.state not in _GONE

    async def ready(self) -> Box:
        """The sandbox, started, with our programs in it. Raises: SandboxUnavailableError."""
        async with self._readying:
            if self._ready is None:
                box = await self._started()
                uploads = (self.api.upload(box, place, path.read_bytes()) for place, path in _PROGRAMS)
                await asyncio.gather(self._make_folder(box), *uploads)
                self._ready, self._seen = box, None
            return self._ready

    async def _make_folder(self, box: Box) -> None:
        made = await self.api.execute(
            box, f"mkdir -p {shlex.quote(self.folder)} && echo made", folder="/", seconds=_QUICK_SECONDS
        )
        if "made" not in made:
            advice = "name a folder that can be made (STIGMER_DAYTONA_FOLDER)"
            raise DaytonaError(f"{self.folder} cannot be made in the sandbox: {made.strip()}; {advice}")

    async def connect(self) -> None:
        """Give it the network, or take it: who has files only to do with leaves it as it is.

        Raises:
            SandboxUnavailableError: It cannot be done.
        """
        box = await self.ready()
        if box.blocked == self._network:
            await self.api.allow_network(box, network=self._network)
            self._ready = replace(box, blocked=not self._network)

    async def uploaded(self, content: bytes) -> str:
        """The place of a new file of ours; a sandbox that was stopped meanwhile is started for it.

        Raises:
            SandboxUnavailableError: It cannot be written.
        """
        place = f"{PLACE}/{uuid.uuid4().hex}"
        try:
            await self.api.upload(await self.ready(), place, content)
        except DaytonaError:
            self._ready = None
            await self.api.upload(await self.ready(), place, content)
        return place

    async def ask(self, verb: str, **asked: Any) -> Any:
        """What our program for files answers there. Raises: SandboxUnavailableError."""
        said = base64.b64encode(json.dumps(asked).encode()).decode()
        command = f"{FILES} {verb} {said}"
        try:
            answer = await self.api.execute(await self.ready(), command, folder="/", seconds=_QUICK_SECONDS)
        except DaytonaError:
            # All of its verbs can be repeated.
            self._ready = None
            answer = await self.api.execute(await self.ready(), command, folder="/", seconds=_QUICK_SECONDS)
        try:
            return json.loads(answer)
        except ValueError:
            raise SandboxUnavailableError(f"the sandbox must have python3: {answer.strip()[-300:]}") from None

    def forget(self) -> None:
        """Look anew at how it is, before it is used again."""
        self._ready = None

    async def _started(self) -> Box:
        until = time.monotonic() + self._settings.wait_seconds
        box, self._seen = self._seen or await self.api.find(self.name), None
        asked = False
        while True:
            if box is None:
                box, asked = await self._made(), True
            elif box.state == "started":
                return box
            elif box.state in _BROKEN and asked:
                raise DaytonaError(f"the sandbox {self.name} is in state {box.state}: {box.reason}")
            elif box.state in _STOPPED | _BROKEN and not asked:
                await self.api.start(box)
                asked = True
            if time.monotonic() > until:
                raise DaytonaError(f"the sandbox {self.name} is still {box.state if box else 'missing'}")
            await asyncio.sleep(self._settings.look_seconds)
            box = await self.api.find(self.name)
            # One that is being deleted gives its name free when it is gone.
            asked = asked and (box is None or box.state not in _GONE)

    async def _made(self) -> Box | None:
        try:
            return await self.api.create(self.name, LABELS, network=self._network, delete_minutes=self._delete_minutes)
        except DaytonaError as error:
            if error.is_conflict:  # somebody else was faster
                return None
            raise
