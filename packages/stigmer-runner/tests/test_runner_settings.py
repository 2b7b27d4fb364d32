"""Where settings come from, and what wrong ones say."""

from pathlib import Path
from typing import ClassVar

import pytest
from stigmer_runner import RunnerSettings, SettingsError, setting, variables_of


class Sample(RunnerSettings):
    """A runner for tests."""

    program: ClassVar[str] = "sample"
    size: int = setting(3, "SAMPLE_SIZE", description="how many", ge=1)


def test_a_flag_weighs_more_than_the_environment_than_the_file_than_the_default(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("size = 4\nserver_address = 'file:1'\ntemporal_namespace = 'file'\n")
    environment = {
        "STIGMER_RUNNER_SETTINGS": str(file),
        "SAMPLE_SIZE": "5",
        "STIGMER_BACKEND_ENDPOINT": "environment:1",
    }
    settings = Sample.load(["--size", "6"], environment)
    assert (settings.size, settings.server_address) == (6, "environment:1")
    assert (settings.temporal_namespace, settings.temporal_address) == ("file", "localhost:7233")


def test_the_weightier_of_two_variables_counts_and_an_empty_one_does_not() -> None:
    both = {"TEMPORAL_HOST_PORT": "a:1", "TEMPORAL_SERVICE_ADDRESS": "b:1"}
    assert Sample.load([], both).temporal_address == "a:1"
    assert Sample.load([], {**both, "TEMPORAL_HOST_PORT": ""}).temporal_address == "b:1"


def test_one_error_tells_every_problem(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("colour = 'red'\n")
    with pytest.raises(SettingsError) as raised:
        Sample.load(["--settings", str(file), "--size", "0"], {"TEMPORAL_MAX_CONCURRENCY": "many", "LOG_LEVEL": "loud"})
    assert len(raised.value.problems) == 4
    text = str(raised.value)
    for part in (
        "there is no setting 'colour'",
        "--size (SAMPLE_SIZE)",
        "--max-concurrency",
        "--log-level (LOG_LEVEL)",
    ):
        assert part in text


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"missing\.toml"):
        Sample.load(["--settings", str(tmp_path / "missing.toml")], {})


def test_help_tells_of_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        Sample.load(["--help"], {})
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for name, variables in variables_of(Sample).items():
        assert f"--{name.replace('_', '-')}" in text
        assert all(variable in text for variable in variables)
