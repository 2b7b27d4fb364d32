"""Entity tags: nothing is sent that the caller has, and nothing is changed that it has not seen."""

from __future__ import annotations

import httpx2

from stigmer_server.http.testing import Front


async def test_a_resource_that_the_caller_has_is_not_sent_again(front: Front) -> None:
    agent = await front.agent("Known")
    for where in (f"/v1/agents/{agent['metadata']['id']}", "/v1/orgs/local/agents/known"):
        first = await front.client.get(where)
        tag = first.headers["etag"]
        for known in (tag, f'"other", W/{tag}', "*"):
            again = await front.client.get(where, headers={"if-none-match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        other = await front.client.get(where, headers={"if-none-match": '"1-0"'})
        assert (other.status_code, other.json()) == (200, first.json())


async def test_a_resource_is_changed_only_as_it_was_read(front: Front) -> None:
    agent = await front.agent("Shared")
    where = f"/v1/agents/{agent['metadata']['id']}"
    metadata = {name: value for name, value in agent["metadata"].items() if name != "version"}

    async def put(instructions: str, tag: str) -> httpx2.Response:
        content = {**agent, "metadata": metadata, "spec": {"instructions": instructions}}
        return await front.client.put(where, json=content, headers={"if-match": tag})

    tag = (await front.client.get(where)).headers["etag"]
    changed = await put("Answer in two sentences.", tag)
    assert (changed.status_code, changed.json()["metadata"]["version"]["id"]) == (200, "2")
    assert changed.headers["etag"] == (await front.client.get(where)).headers["etag"] != tag
    for outdated in (tag, '"not-one-of-ours"', "nothing"):
        late = await put("Answer in three sentences.", outdated)
        assert (late.status_code, late.json()["code"]) == (412, "ABORTED")
    patch = {"spec": {"instructions": "Answer in four sentences."}}
    assert (await front.client.patch(where, json=patch, headers={"if-match": tag})).status_code == 412
    patched = await front.client.patch(where, json=patch, headers={"if-match": f"{tag}, {changed.headers['etag']}"})
    assert (patched.status_code, patched.json()["metadata"]["version"]["id"]) == (200, "3")
    assert (await put("Answer as you like, please.", "*")).status_code == 200


async def test_a_condition_that_would_not_be_seen_to_is_refused(front: Front) -> None:
    agent = await front.agent("Kept")
    where = f"/v1/agents/{agent['metadata']['id']}"
    refused = await front.client.delete(where, headers={"if-match": '"1-0"'})
    assert (refused.status_code, refused.json()["code"]) == (400, "INVALID_ARGUMENT")
    assert (await front.client.get(where)).status_code == 200
