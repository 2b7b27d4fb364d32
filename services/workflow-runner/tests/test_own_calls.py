"""The functions that Stigmer has beside those of the specification, save agents and people."""

from typing import Any

from workflow_runner.testing import Request, Response, Runs, Site

SCHEMA = "{document: {type: object, required: [id], properties: {id: {type: integer}}}}"


async def test_transform_gives_data_another_form(runs: Runs) -> None:
    text = "do:\n- a: {call: transform, with: {input: '${ .raw }', as: '{id: .ID, n: length}'}}"
    assert await runs.output(text, {"raw": {"ID": 7}}) == {"id": 7, "n": 1}
    text = "do:\n- a: {call: transform, with: {as: {id: '${ .raw.ID }', fixed: x}}}"
    assert await runs.output(text, {"raw": {"ID": 7}}) == {"id": 7, "fixed": "x"}


async def test_validate_lets_data_through_faults_or_reports(runs: Runs) -> None:
    text = f"do:\n- a: {{call: validate, with: {{input: '${{ .it }}', schema: {SCHEMA}}}}}"
    assert await runs.output(text, {"it": {"id": 1}}) == {"id": 1}
    error = await runs.error(text, {"it": {"id": "x"}})
    assert (error["status"], error["instance"], "/id" in error["detail"]) == (400, "/do/0/a", True)
    reported = text.replace("schema:", "report: true, schema:")
    assert await runs.output(reported, {"it": {"id": 1}}) == {"valid": True, "violations": []}
    assert await runs.output(reported, {"it": {"id": "x"}}) == {
        "valid": False,
        "violations": [{"pointer": "/id", "message": "'x' is not of type 'integer'"}],
    }


async def test_a_notification_is_posted_or_published(runs: Runs, site: Site) -> None:
    got: list[Any] = []

    async def hook(request: Request) -> Response:
        got.append(request.json)
        return Response({})

    site.page("/hook", hook)
    told = "message: '${ \"Order \" + .id }', title: Orders, level: warning, recipients: [ops], data: {n: 1}"
    output = await runs.output(
        f"do:\n- a: {{call: notification, with: {{{told}, endpoint: {site.url}/hook}}}}", {"id": "7"}
    )
    assert output == {
        "level": "warning",
        "title": "Orders",
        "message": "Order 7",
        "recipients": ["ops"],
        "data": {"n": 1},
    }
    assert got == [output]
    assert await runs.output(f"do:\n- a: {{call: notification, with: {{{told}}}}}", {"id": "7"}) == output
    (event,) = runs.peer.events.kept
    assert (event["type"], event["subject"], event["data"]) == ("io.stigmer.notification", "Orders", output)


async def test_a_notification_that_is_refused_is_an_error_of_the_task(runs: Runs, site: Site) -> None:
    site.page("/hook", Response({}, 503))
    error = await runs.error(f"do:\n- a: {{call: notification, with: {{message: x, endpoint: {site.url}/hook}}}}")
    assert (error["status"], error["instance"]) == (503, "/do/0/a")
