"""What becomes of a call, and of a run that is loaded, in which something goes wrong that nobody expected."""

from collections.abc import Mapping
from typing import Any, cast

import pytest
from stigmer_grpc.errors import UnavailableError
from temporalio.testing import ActivityEnvironment
from workflow_runner.activities import Calls, Loading
from workflow_runner.activities.concealment import conceal
from workflow_runner.messages import Call

CALL: Call = {
    "execution_id": "wex-1",
    "has_secrets": False,
    "nonce": "n",
    "arguments": {},
    "seconds": 5.0,
    "local_seconds": None,
    "report": None,
    "report_after": 0.0,
}
CALLS = Calls(cast("Any", None), cast("Any", None))
"""Without secrets and reports it asks nobody for anything."""


async def broken(_: Mapping[str, Any], __: float) -> Any:
    conceal("hidden-token")
    raise ZeroDivisionError("hidden-token is odd")


async def test_it_is_an_error_of_the_task_and_shows_nothing_that_is_concealed() -> None:
    answer = await ActivityEnvironment().run(CALLS.make, CALL, broken)
    error = answer.get("error", {})
    assert error["type"].endswith("/errors/runtime")
    assert error["detail"] == "the call failed unexpectedly: ZeroDivisionError: ***REDACTED*** is odd"


async def test_it_may_go_well_elsewhere_when_the_worker_goes_away() -> None:
    environment = ActivityEnvironment()
    environment.worker_shutdown()
    with pytest.raises(ZeroDivisionError):
        await environment.run(CALLS.make, CALL, broken)


async def test_a_server_that_is_away_is_asked_again() -> None:
    async def away(_: Mapping[str, Any], __: float) -> Any:
        raise UnavailableError("away")

    with pytest.raises(UnavailableError):
        await ActivityEnvironment().run(CALLS.make, CALL, away)


async def test_a_run_that_cannot_be_loaded_ends_with_an_error_instead_of_being_loaded_for_ever() -> None:
    nothing = cast("Any", None)
    loading = Loading(
        nothing,
        nothing,
        nothing,
        values=nothing,
        catalogs=nothing,
        lacking=(),
        schemas=nothing,
        searchable=nothing,
        head_start=nothing,
    )
    request = {"execution_id": "wex-1", "org": "", "started_at": "", "workflow_id": ""}
    answer = await ActivityEnvironment().run(loading.load, request)
    assert answer["error"]["type"].endswith("/errors/runtime")
    assert answer["error"]["detail"] == "the run cannot be loaded: internal error: AttributeError"
