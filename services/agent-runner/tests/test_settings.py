"""What the runner can be told, as a process."""

from __future__ import annotations

import asyncio
import sys

import pytest
from agent_runner.settings import Settings
from stigmer_runner.errors import SettingsError
from stigmer_runner.settings import variables_of


async def _process(*arguments: str, **variables: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "agent_runner", *arguments),
        env=variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_help_tells_every_setting_with_its_variable_and_default() -> None:
    code, out, _ = await _process("--help")
    assert code == 0
    told = " ".join(out.split()).partition(" options: ")[2]
    for name, variables in variables_of(Settings).items():
        default = Settings.model_fields[name].default
        shown = "" if default in (None, "") else f", default {default}"
        assert f"--{name.replace('_', '-')} VALUE" in told
        assert f"[env {', '.join(variables)}{shown}]" in told


async def test_all_wrong_settings_are_told_at_once() -> None:
    code, _, err = await _process("--max-steps", "0", TEMPORAL_MAX_CONCURRENCY="many", STIGMER_LLM_TEMPERATURE="7")
    assert code == 2
    for name in ("--max-steps", "TEMPORAL_MAX_CONCURRENCY", "STIGMER_LLM_TEMPERATURE"):
        assert name in err


def test_a_flag_weighs_more_than_a_variable() -> None:
    variables = {"STIGMER_LLM_PROVIDER": "openai", "TEMPORAL_SERVICE_ADDRESS": "temporal:7233"}
    settings = Settings.load(["--llm-provider", "ollama"], variables)
    assert settings.llm_provider == "ollama"
    assert settings.temporal_address == "temporal:7233"


def test_every_key_of_the_process_is_known_to_be_secret() -> None:
    names = [name for name in Settings.model_fields if name.endswith("api_key")]
    settings = Settings.load([], {variables_of(Settings)[name][0]: f"secret-{name}" for name in names})
    assert set(settings.keys) == {f"secret-{name}" for name in names}


def test_a_provider_is_a_word() -> None:
    with pytest.raises(SettingsError, match="STIGMER_LLM_PROVIDER"):
        Settings.load([], {"STIGMER_LLM_PROVIDER": "Open AI"})
