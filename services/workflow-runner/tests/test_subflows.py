"""Workflows that run other workflows, as the runner sees it; tests/e2e has the same on a real stack."""

import pytest
from workflow_runner.testing import PeerServer, Runs, StartRunner


def document(name: str, tasks: str) -> str:
    return f"document: {{dsl: 1.0.3, namespace: test, name: {name}, version: 1.0.0}}\ndo:\n{tasks}\n"


@pytest.mark.requirement("flow.depth")
@pytest.mark.parametrize("waits", ["true", "false"])
async def test_workflows_that_run_one_another_for_ever_end_with_a_clear_error(
    start_runner: StartRunner, peer: PeerServer, waits: str
) -> None:
    runs = await start_runner(max_call_depth=3)
    again = f"- again: {{run: {{workflow: {{namespace: test, name: again}}, await: {waits}}}}}"
    peer.children.workflows["again"] = document("again", again)
    execution = await runs.run(document("again", again))
    while len(peer.children.created) < 3:
        await peer.until(peer.children.created[-1], lambda seen: bool(seen.phase in ("COMPLETED", "FAILED")))
    last = peer.children.created[-1]
    await peer.until(last, lambda seen: seen.phase == "FAILED")
    assert [each.labels["stigmer.ai/call-depth"] for each in peer.children.created] == ["1", "2", "3"]
    assert last.error["instance"] == "/do/0/again"
    assert "the workflow test/again is not run: 3 workflows have run one another" in last.error["detail"]
    assert execution.phase == ("FAILED" if waits == "true" else "COMPLETED")
    if waits == "true":
        assert execution.error["detail"] == last.error["detail"]


async def test_a_task_tells_which_execution_it_waits_for(runs: Runs, peer: PeerServer) -> None:
    peer.children.workflows["waits"] = document("waits", "- it: {wait: PT1H}")
    execution = runs.add("do:\n- child: {run: {workflow: {namespace: test, name: waits}}}")
    handle = await runs.start(execution)
    await peer.until(
        execution,
        lambda seen: "/do/0/child" in seen.reported and "execution" in dict(seen.reported["/do/0/child"].metadata),
    )
    (child,) = peer.children.created
    assert execution.reported["/do/0/child"].metadata["execution"] == child.id
    await handle.cancel()
    await peer.until(execution, lambda seen: seen.phase == "CANCELLED")
