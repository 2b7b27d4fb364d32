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
    assert "the workflow test/again is not run: 3 runs have started one another" in last.error["detail"]
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


@pytest.mark.requirement("flow.depth")
async def test_events_tell_how_many_runs_led_to_them_and_none_is_published_after_too_many(
    start_runner: StartRunner,
) -> None:
    runs = await start_runner(max_call_depth=3)
    emit = "do:\n- tell: {emit: {event: {with: {type: com.example.told}}}}"
    assert "stigmerdepth" not in await runs.output(emit)
    event = await runs.output(emit, labels={"stigmer.ai/call-depth": "2"})
    assert event["stigmerdepth"] == "2"
    error = await runs.error(emit, labels={"stigmer.ai/call-depth": "3"})
    assert error["detail"].startswith("the event is not published: 3 runs have started one another down to this one")
    assert error["instance"] == "/do/0/tell"
