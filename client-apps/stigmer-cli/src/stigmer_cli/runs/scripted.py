"""Scripts beside an agent's file: what the scripted model says in place of a model, given with the command."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from stigmer_cli.environment import Environment
from stigmer_cli.errors import ConflictError, InvalidInputError


def scripted_model(script: Path | None, model: str, *, environment: Environment, server: str) -> str:
    """Put a script where this home's runner finds it; the name of the model that says it, or `model` without one.

    Its name holds a hash of what it says, so that a run that goes on later goes on with the same script.
    """
    if script is None:
        return model
    if model:
        raise InvalidInputError("--script says what the scripted model answers", hint="leave --model out")
    if server or environment.server_address:
        raise ConflictError(
            "--script is for the stack of this machine",
            hint="elsewhere, put it in the runner's STIGMER_SCRIPTS_FOLDER as NAME.yaml: --model scripted:NAME",
        )
    try:
        content = script.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"cannot read {script}: {error.strerror}") from None
    stem = re.sub(r"[^A-Za-z0-9]+", "-", script.name.partition(".")[0]).strip("-")[:40] or "script"
    name = f"{stem}-{hashlib.sha256(content).hexdigest()[:12]}"
    folder = environment.home.scripts
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / f"{name}.yaml").write_bytes(content)
    return f"scripted:{name}"
