"""Settings: where they come from, which one wins, and how wrong ones are told."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from stigmer_server.command_line import parse
from stigmer_server.errors import SettingsError
from stigmer_server.settings import Settings
from stigmer_server.settings_file import variables_of
from stigmer_server.settings_flags import load

VARIABLES = sorted(name for info in Settings.model_fields.values() for name in variables_of(info))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "STIGMER_SERVER_CONFIG"):
        # Set and removed, so that what a test itself leaves behind is undone as well.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_defaults() -> None:
    settings = load([])
    assert settings.address == "127.0.0.1:8080"
    assert settings.db_path == Path.home() / ".stigmer" / "stigmer.db"
    assert settings.storage_path == Path.home() / ".stigmer" / "storage"
    assert (settings.log_level, settings.env) == ("info", "local")
    assert (settings.temporal_address, settings.temporal_namespace) == ("localhost:7233", "default")
    assert settings.agent_execution_queue == "agent_execution_runner"
    assert settings.workflow_execution_queue == "workflow_execution_runner"


def test_every_variable_of_older_set_ups_is_read() -> None:
    assert {
        "GRPC_PORT",
        "DB_PATH",
        "STORAGE_PATH",
        "LOG_LEVEL",
        "ENV",
        "TEMPORAL_HOST_PORT",
        "TEMPORAL_NAMESPACE",
        "TEMPORAL_SERVICE_ADDRESS",
        "TEMPORAL_AGENT_EXECUTION_STIGMER_TASK_QUEUE",
        "TEMPORAL_AGENT_EXECUTION_RUNNER_TASK_QUEUE",
        "TEMPORAL_WORKFLOW_EXECUTION_STIGMER_TASK_QUEUE",
        "TEMPORAL_WORKFLOW_EXECUTION_RUNNER_TASK_QUEUE",
        "TEMPORAL_WORKFLOW_VALIDATION_STIGMER_TASK_QUEUE",
        "TEMPORAL_WORKFLOW_VALIDATION_RUNNER_TASK_QUEUE",
        "STIGMER_ENCRYPTION_KEY",
    } <= set(VARIABLES)


@pytest.mark.parametrize("suffix", [".toml", ".yaml"])
def test_flag_wins_over_environment_over_file_over_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"server{suffix}"
    lines = {"grpc_port": "1001", "LOG_LEVEL": '"debug"', "temporal_namespace": '"filed"'}
    sign = " = " if suffix == ".toml" else ": "
    path.write_text("".join(f"{name}{sign}{value}\n" for name, value in lines.items()))
    monkeypatch.setenv("LOG_LEVEL", "error")
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "environment")
    settings = load(["--config", str(path), "--temporal-namespace", "flag"])
    assert (settings.grpc_port, settings.log_level, settings.temporal_namespace) == (1001, "error", "flag")
    assert settings.env == "local"


def test_the_file_can_be_named_by_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "server.toml"
    path.write_text("grpc_port = 1002\n")
    monkeypatch.setenv("STIGMER_SERVER_CONFIG", str(path))
    assert load([]).grpc_port == 1002


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("TEMPORAL_SERVICE_ADDRESS", "temporal:7000")
    assert load([]).grpc_port == 8080
    assert load([]).temporal_address == "temporal:7000"
    monkeypatch.setenv("TEMPORAL_HOST_PORT", "better:7001")
    assert load([]).temporal_address == "better:7001"


def test_wrong_values_are_reported_together_and_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRPC_PORT", "seven")
    monkeypatch.setenv("LOG_LEVEL", "loud")
    monkeypatch.setenv("TEMPORAL_HOST_PORT", "nowhere")
    monkeypatch.setenv("STIGMER_ENCRYPTION_KEY", "short-and-secret")
    with pytest.raises(SettingsError) as caught:
        load(["--shutdown-grace-seconds", "-1"])
    told = "\n".join(caught.value.problems)
    for name in ("GRPC_PORT", "LOG_LEVEL", "TEMPORAL_HOST_PORT", "STIGMER_ENCRYPTION_KEY", "--shutdown-grace-seconds"):
        assert name in told
    assert "short-and-secret" not in told


@pytest.mark.parametrize("flag", ["--grpc-host", "--http-host"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "::ffff:192.0.2.1", "2001:db8::1", "stigmer.example.com"])
def test_an_address_that_others_reach_is_refused_however_it_is_written(flag: str, host: str) -> None:
    with pytest.raises(SettingsError, match="can be reached from other machines; let callers sign in"):
        load([flag, host])


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_the_loopback_interface_has_an_address_of_ipv6_too(host: str) -> None:
    settings = load(["--grpc-host", host, "--http-host", host])
    assert (settings.address, settings.http_host) == ("[::1]:8080", "::1")


@pytest.mark.parametrize("value", ["-1", "65536", "1.5"])
def test_a_port_is_a_port(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("GRPC_PORT", value)
    with pytest.raises(SettingsError):
        load([])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.toml", "grpc_port = "),
        ("a.yaml", "grpc_port: [1"),
        ("a.yaml", "- 1"),
        ("a.toml", "grpc_prt = 1"),
        ("missing.toml", None),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error(tmp_path: Path, name: str, content: str | None) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(SettingsError):
        load(["--config", str(tmp_path / name)])


def test_a_setting_that_there_is_not_is_told_with_the_one_that_is_like_it(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("grpc-prt = 1\nlog-level = 'debug'\nnonsense = 2\n")
    with pytest.raises(SettingsError) as caught:
        load(["--config", str(tmp_path / "a.toml")])
    assert caught.value.problems == (
        "settings file: there is no setting 'grpc-prt'; did you mean grpc_port?",
        "settings file: there is no setting 'nonsense'",
    )


@pytest.mark.parametrize("arguments", [("--grpc-prt", "1"), ("check", "--grpc-prt=1"), ("--grpc-prt", "1", "check")])
def test_an_option_that_there_is_not_is_told_with_the_one_that_is_like_it(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(arguments)
    assert caught.value.code == 2
    assert "there is no option --grpc-prt; did you mean --grpc-port?" in capsys.readouterr().err


def test_constructor_arguments_are_named_like_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRPC_PORT", "1")
    settings = Settings(grpc_port=2, db_path=tmp_path / "a.db")
    assert (settings.grpc_port, settings.db_path) == (2, tmp_path / "a.db")


def test_keys_are_taken_in_hex_and_base64() -> None:
    key = os.urandom(32)
    for text in (key.hex(), base64.b64encode(key).decode(), f"{key.hex()}, {base64.urlsafe_b64encode(key).decode()}"):
        settings = Settings.model_validate({"STIGMER_ENCRYPTION_KEY": text})
        assert settings.encryption_key is not None
        assert key.hex() not in repr(settings)


def test_help_tells_every_setting_its_default_and_its_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load(["--help"])
    assert caught.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    for name, info in Settings.model_fields.items():
        assert "--" + name.replace("_", "-") in told
        for variable in variables_of(info):
            assert variable in told
    assert "8080" in told


def test_the_readme_lists_every_setting_with_its_variables_and_its_default() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text()
    rows = {row.split("|")[1].strip(): row for row in text.splitlines() if row.startswith("| `--")}
    assert sorted(rows) == sorted(f"`--{name.replace('_', '-')}`" for name in Settings.model_fields)
    for name, info in Settings.model_fields.items():
        row = rows[f"`--{name.replace('_', '-')}`"]
        for variable in variables_of(info):
            assert f"`{variable}`" in row
        if isinstance(info.default, int | float | str) and not isinstance(info.default, bool) and info.default != "":
            assert f"`{info.default:g}`" in row if isinstance(info.default, float) else f"`{info.default}`" in row
