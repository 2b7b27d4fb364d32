"""Definitions of runs in the form in which they are interpreted."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from stigmer_dsl.model import Workflow, load_trusted


@lru_cache(maxsize=128)
def compiled(definition: str) -> tuple[Workflow, Mapping[str, Any]]:
    """Return the model and the JSON of a definition; every run of it in this process shares them."""
    value = json.loads(definition)
    return load_trusted(value), value
