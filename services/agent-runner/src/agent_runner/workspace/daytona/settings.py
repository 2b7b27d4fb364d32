"""How Daytona is used; light, for the settings to import."""

from __future__ import annotations

from dataclasses import dataclass

API_URL = "https://app.daytona.io/api"


@dataclass(frozen=True, slots=True, kw_only=True)
class DaytonaSettings:
    """How Daytona is reached, and what sandboxes are made of.

    Attributes:
        api_key: The key; "" when there is none.
        api_url: The platform's API.
        target: Region of new sandboxes; "": the organization's own.
        snapshot: What they are made of; "": Daytona's own.
        folder: Where in them the workspace is.
        idle_seconds: After how long unused they are stopped; files are kept.
        wait_seconds: How long one has to start.
        look_seconds: Pause between looks at whether it has.
    """

    api_key: str = ""
    api_url: str = API_URL
    target: str = ""
    snapshot: str = ""
    folder: str = "/home/daytona/workspace"
    idle_seconds: float = 3600.0
    wait_seconds: float = 180.0
    look_seconds: float = 0.5
