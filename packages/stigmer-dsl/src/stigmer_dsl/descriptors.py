"""The values of `$task`, `$workflow`, `$runtime` and `$authorization`, as the specification describes them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


def describe_time(moment: datetime) -> dict[str, Any]:
    """A point in time: ISO 8601 in UTC, and both counts since the epoch.

    Raises:
        ValueError: The moment has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("the moment has no time zone")
    utc = moment.astimezone(UTC)
    whole = int(utc.replace(microsecond=0).timestamp())
    return {
        "iso8601": utc.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "epoch": {"seconds": whole, "milliseconds": whole * 1000 + utc.microsecond // 1000},
    }


def describe_task(
    *,
    name: str,
    reference: str,
    definition: Mapping[str, Any],
    input: Any,  # noqa: A002 - the specification's word
    output: Any = None,
    started_at: datetime | None = None,
) -> dict[str, Any]:
    """`$task`: raw input, raw output, and what the document says (`definition`) at `reference`.

    The keys of the definition are there too (`$task.call`, `$task.with`), unless the description has them.
    """
    described: dict[str, Any] = {
        "name": name,
        "reference": reference,
        "definition": definition,
        "input": input,
        "output": output,
    }
    if started_at is not None:
        described["startedAt"] = describe_time(started_at)
    return {**{key: value for key, value in definition.items() if key not in described}, **described}


def describe_workflow(
    *,
    id: str,  # noqa: A002 - the specification's word
    definition: Mapping[str, Any],
    input: Any,  # noqa: A002 - the specification's word
    started_at: datetime | None = None,
) -> dict[str, Any]:
    """`$workflow`: the run's id, the parsed document, and the raw input."""
    described: dict[str, Any] = {"id": id, "definition": definition, "input": input}
    if started_at is not None:
        described["startedAt"] = describe_time(started_at)
    return described


def describe_runtime(*, name: str, version: str, metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`$runtime`: who runs the workflow."""
    return {"name": name, "version": version, "metadata": dict(metadata or {})}


def describe_authorization(*, scheme: str, parameter: str | None) -> dict[str, Any]:
    """`$authorization`: the scheme, and a marker of its parameter (see `stigmer_dsl.secrets`) or None."""
    return {"scheme": scheme, "parameter": parameter}
