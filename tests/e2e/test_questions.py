"""Workflows that ask people, on a real stack: at the prompt, and from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from stigmer_cli.testing import Cli

pytestmark = pytest.mark.slow

ASKS = """
document: {dsl: 1.0.3, namespace: shop, name: refund, version: 1.0.0}
do:
- review:
    call: human_input
    with:
      message: '${ "Refund order " + .id + "?" }'
      outcomes: [refund, keep, 'yes']
      form:
        document:
          type: object
          required: [amount]
          properties: {amount: {type: integer, title: Amount, maximum: 10}, tell: {type: boolean}, note: {type: string}}
- pay: {set: {outcome: '${ .outcome }', data: '${ .data }', comment: '${ .comment }', by: '${ .by }'}}
"""


@pytest.fixture
def asks(tmp_path: Path) -> str:
    file = tmp_path / "refund.yaml"
    file.write_text(ASKS)
    return str(file)


def test_a_person_answers_at_the_prompt(stack: Cli, asks: str) -> None:
    terminal = stack.type("run", asks, "--input", '{"id": "7"}')
    terminal.until("review asks: Refund order 7?")
    terminal.until("refund / keep / yes (empty: later): ")
    terminal.type("ref\n")
    for prompt, typed in (("Amount (integer): ", "12"), ("note (string): ", ""), ("tell (boolean): ", "yes")):
        terminal.until(prompt)
        terminal.type(f"{typed}\n")
    terminal.until("comment (may be empty): ")
    terminal.type("as agreed\n")
    terminal.until("12 is greater than the maximum of 10")
    terminal.until("(empty: later): ")
    terminal.type("refund\n")
    terminal.until("Amount (integer): ")
    terminal.type("much\n")
    terminal.until("write it as JSON")
    for prompt, typed in (
        ("Amount (integer): ", "9"),
        ("note (string): ", ""),
        ("tell (boolean): ", "yes"),
        ("comment (may be empty): ", "as agreed"),
    ):
        terminal.until(prompt)
        terminal.type(f"{typed}\n")
    terminal.until('"comment": "as agreed"')
    terminal.until('"amount": 9')
    assert terminal.end() == 0


def test_a_run_is_answered_from_elsewhere(stack: Cli, asks: str) -> None:
    running = stack.start("run", asks, "--input", '{"id": "7"}')
    running.until_said("stigmer approve wex-")
    (line,) = (line for line in running.err if "stigmer approve" in line)
    run = line.partition("stigmer approve ")[2].split()[0]
    refused = stack.run("approve", run, "--outcome", "perhaps")
    assert (refused.code, "none of: refund, keep, yes" in refused.err) == (2, True)
    assert stack.run("reject", run).code == 2
    approved = stack.run("approve", run, "review", "--data", '{"amount": 3}', "--comment", "fine")
    assert approved.code == 0, approved.err
    ended = running.wait()
    assert ended.code == 0, ended.err
    assert ended.json["outcome"] == "yes"
    assert (ended.json["data"], ended.json["comment"]) == ({"amount": 3}, "fine")
    watched = stack.run("watch", run, "-o", "json")
    assert watched.json["tasks"][0]["status"] == "COMPLETED"
