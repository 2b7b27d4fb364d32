"""Files in and out of agents' workspaces, through the command, on a real stack."""

from __future__ import annotations

from pathlib import Path

import pytest
from stigmer_cli.testing import Cli

EXAMPLE = Path(__file__).parents[2] / "examples" / "agents" / "reporter.yaml"
SCRIPT = str(EXAMPLE.with_suffix(".script.yaml"))
SALES = EXAMPLE.parent / "files" / "sales.csv"
REPORT = "# Revenue by region\n- north: 4050\n- south: 2950\n"

pytestmark = pytest.mark.slow


def test_a_file_goes_in_and_a_report_comes_out(stack: Cli, tmp_path: Path) -> None:
    given = ("-m", "Revenue by region?", "--file", str(SALES))
    ran = stack.run("run", str(EXAMPLE), "--script", SCRIPT, *given, "-o", "json").json
    assert ran["phase"] == "COMPLETED"
    assert sorted(artifact["path"] for artifact in ran["artifacts"]) == ["look.py", "report.md"]
    got = stack.run("files", "get", ran["id"], "report.md", "--to", str(tmp_path))
    assert (got.code, (tmp_path / "report.md").read_text()) == (0, REPORT)
    listed = stack.run("files", "list", ran["session_id"], "-o", "name")
    assert sorted(listed.out.split()) == ["look.py", "report.md", "sales.csv"]


def test_a_talk_goes_on_with_another_file(stack: Cli, tmp_path: Path) -> None:
    more = tmp_path / "sales.csv"
    more.write_text("month,region,revenue\n2026-07,east,7\n")
    talk = stack.run("chat", str(EXAMPLE), "--script", SCRIPT, "--file", str(SALES), stdin="Revenue?\n")
    assert (talk.code, "north: 4050" in talk.out) == (0, True), talk.err
    assert "files: look.py" in talk.err
    session = "ses-" + talk.err.rpartition("`stigmer chat ses-")[2].partition("`")[0]
    assert stack.run("files", "put", session, str(more)).code == 0
    again = stack.run("chat", session, "--script", SCRIPT, stdin="And now?\n")
    assert "- east: 7" in again.out
    assert stack.run("files", "get", session, "sales.csv", "--to", "-").out == more.read_text()
