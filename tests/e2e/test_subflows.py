"""Workflows that run other workflows, on a real stack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stigmer_cli.testing import Cli, wait_until

pytestmark = pytest.mark.slow


def apply(stack: Cli, folder: Path, name: str, tasks: str) -> None:
    file = folder / f"{name}.yaml"
    file.write_text(f"document: {{dsl: 1.0.3, namespace: shop, name: {name}, version: 1.0.0}}\ndo:\n{tasks}\n")
    applied = stack.run("apply", "-f", str(file))
    assert applied.code == 0, applied.err


def run(stack: Cli, folder: Path, name: str, tasks: str, *options: str) -> Any:
    file = folder / f"{name}.yaml"
    file.write_text(f"document: {{dsl: 1.0.3, namespace: shop, name: {name}, version: 1.0.0}}\ndo:\n{tasks}\n")
    return json.loads(stack.run("run", str(file), "-o", "json", *options).out)


@pytest.mark.requirement("run.workflow", "run.reference", "run.await")
def test_a_workflow_runs_another_and_gets_its_output_or_its_error(stack: Cli, tmp_path: Path) -> None:
    apply(stack, tmp_path, "double", "- it: {set: '${ .n * 2 }'}")
    apply(stack, tmp_path, "broken", "- it: {raise: {error: {type: 'https://example.com/no', status: 418, title: no}}}")
    result = run(
        stack,
        tmp_path,
        "parent",
        """
- many: {for: {in: '[1, 2]'}, do: [{one: {run: {workflow: {namespace: shop, name: double, input: {n: '${ $item }'}}}}}]}
- caught:
    try: [{it: {run: {workflow: {namespace: shop, name: broken, version: 1.0.0}}}}]
    catch: {do: [{tell: {set: {status: '${ $error.status }', title: '${ $error.title }', n: '${ . }'}}}]}
- alone: {run: {workflow: {namespace: shop, name: double, input: {n: 4}}, await: false}}
""",
    )
    assert result["error"] is None, result
    assert result["output"] == {"status": 418, "title": "no", "n": 4}
    listed = json.loads(stack.run("get", "workflow-executions", "-o", "json").out)
    names = [item["metadata"]["name"] for item in listed["items"]]
    assert len([name for name in names if name.startswith("double-")]) == 3


@pytest.mark.requirement("run.reference")
def test_a_workflow_that_is_not_there_is_a_clear_error(stack: Cli, tmp_path: Path) -> None:
    result = run(stack, tmp_path, "lost", "- it: {run: {workflow: {namespace: shop, name: nowhere}}}")
    assert "the workflow shop/nowhere:latest cannot be run" in json.dumps(result)


def test_what_a_cancelled_workflow_runs_is_cancelled_with_it(stack: Cli, tmp_path: Path) -> None:
    apply(stack, tmp_path, "endless", "- it: {wait: {hours: 1}}")
    file = tmp_path / "waiting.yaml"
    file.write_text(
        "document: {dsl: 1.0.3, namespace: shop, name: waiting, version: 1.0.0}\n"
        "do:\n- it: {run: {workflow: {namespace: shop, name: endless}}}\n"
    )
    parent = stack.run("run", str(file), "--detach").out.strip()
    wait_until(lambda: phases(stack, "endless") == ["IN_PROGRESS"], lambda: f"phases {phases(stack, 'endless')}")
    assert stack.run("cancel", parent, "--wait").code == 0
    wait_until(lambda: phases(stack, "endless") == ["CANCELLED"], lambda: f"phases {phases(stack, 'endless')}")


def phases(stack: Cli, name: str) -> list[str]:
    listed = json.loads(stack.run("get", "workflow-executions", "-o", "json").out)["items"]
    return [
        item["status"]["phase"].removeprefix("EXECUTION_")
        for item in listed
        if item["metadata"]["name"].startswith(f"{name}-")
    ]
