"""What calls of models cost, by a table of prices."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from agent_runner.errors import ConfigurationError

_MILLION = 1_000_000
_Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Price(BaseModel):
    """What models cost whose names fit a glob, in US dollars for a million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(min_length=1)]
    input: _Cost
    cached: _Cost
    output: _Cost


_TABLE = TypeAdapter(list[Price])


class Prices:
    """Prices of models; the first that fits counts."""

    def __init__(self, prices: Sequence[Price]) -> None:
        self._prices = tuple(prices)

    @classmethod
    def load(cls, own: Path | None = None) -> Prices:
        """The prices that come with this package, behind those of the operator's file.

        Raises:
            ConfigurationError: The operator's file cannot be read.
        """
        shipped = _read(files("agent_runner.models").joinpath("prices.yaml").read_text(encoding="utf-8"), "prices.yaml")
        if own is None:
            return cls(shipped)
        try:
            text = own.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"STIGMER_PRICES_FILE: {own}: {error}") from None
        return cls([*_read(text, str(own)), *shipped])

    def cost(self, model: str, *, read: int, cached: int, written: int) -> float | None:
        """The cost of tokens of `provider:model` in US dollars; None when its price is not known.

        Args:
            model: The model.
            read: Tokens read, those from the cache included.
            cached: Tokens read from the cache.
            written: Tokens written.
        """
        for price in self._prices:
            if fnmatchcase(model, price.model):
                return ((read - cached) * price.input + cached * price.cached + written * price.output) / _MILLION
        return None


def _read(text: str, name: str) -> list[Price]:
    reader: Any = YAML(typ="safe", pure=True)
    try:
        return _TABLE.validate_python(reader.load(text) or [])
    except YAMLError as error:
        raise ConfigurationError(f"{name}: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ConfigurationError(f"{name}: {told}") from None
