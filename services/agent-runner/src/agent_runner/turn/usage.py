"""What a run uses up, and how much it may: kept in the journal, so that no attempt and no pause forgets it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

from langchain_core.messages import AIMessage

from agent_runner.errors import BudgetExceededError
from agent_runner.models.prices import Prices

_NOTED = "stigmer"
"""Key of an answer's `response_metadata`, which no model is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What calls of models used up.

    Attributes:
        model_calls: How many were answered.
        input_tokens: Tokens read.
        cached_tokens: Those of them that came from a cache.
        output_tokens: Tokens written.
        cost_usd: Cost as far as it is known.
        unpriced_calls: Calls whose cost is not known.
        seconds: Time of work, calls of tools included.
    """

    model_calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    unpriced_calls: int = 0
    seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(Usage)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a run may use up; 0 is without bound."""

    model_calls: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0

    def exceeded(self, used: Usage) -> str:
        """Which bound is reached, in words; "" when none is."""
        tokens = used.input_tokens + used.output_tokens
        if self.model_calls and used.model_calls >= self.model_calls:
            return f"{self.model_calls} calls of models"
        if self.tokens and tokens >= self.tokens:
            return f"{self.tokens} tokens ({tokens} used)"
        if self.cost_usd and used.cost_usd >= self.cost_usd:
            return f"{self.cost_usd:g} US dollars ({used.cost_usd:.4f} used)"
        if self.seconds and used.seconds >= self.seconds:
            return f"{self.seconds:g} seconds of work"
        return ""


class UsageRecord(Protocol):
    """Keeps what was used."""

    async def add_usage(self, call: str, usage: Usage) -> None:
        """Keep what one call used, durably before this returns; the same call again changes nothing."""
        ...


@dataclass(slots=True, kw_only=True)
class Meter:
    """Counts what one execution uses up.

    Attributes:
        record: Where it is kept.
        prices: What it costs.
        budget: What the execution may use.
        used: What it has used before.
        earlier: What its session has used in other executions.
        clock: Seconds that only rise.
    """

    record: UsageRecord
    prices: Prices
    budget: Budget
    used: Usage
    earlier: Usage = field(default_factory=Usage)
    clock: Callable[[], float] = time.monotonic
    _since: float = field(init=False)

    def __post_init__(self) -> None:
        self._since = self.clock()

    @property
    def session(self) -> Usage:
        """What the session has used, this execution included."""
        return self.earlier + self.used

    @asynccontextmanager
    async def call(self) -> AsyncGenerator[None]:
        """Around a call of a model: begins only within the budget, and ends when its time is over.

        Raises:
            BudgetExceededError: A bound is reached.
        """
        now = self.used + Usage(seconds=self.clock() - self._since)
        if reached := self.budget.exceeded(now):
            raise BudgetExceededError(f"the run has used up its budget of {reached}")
        left = self.budget.seconds - now.seconds if self.budget.seconds else None
        limit = asyncio.timeout(left)
        try:
            async with limit:
                yield
        except TimeoutError:
            if limit.expired():
                spent = f"the run has used up its budget of {self.budget.seconds:g} seconds of work"
                raise BudgetExceededError(spent) from None
            raise

    async def note(self, model: str, call: str, message: AIMessage) -> Usage:
        """Count an answer of `provider:model`; `call` names it, the same however often it is told."""
        now = self.clock()
        usage = usage_of(message, model, self.prices, seconds=now - self._since)
        self._since = now
        await self.record.add_usage(call, usage)
        self.used += usage
        message.response_metadata[_NOTED] = {"model": model, **asdict(usage)}
        return usage


def noted(message: AIMessage) -> tuple[str, Usage | None]:
    """Who gave an answer, and what it took, as it was noted; the checkpoint keeps it with the message."""
    kept: Any = message.response_metadata.get(_NOTED)
    if kept is None:
        return "", None
    return kept["model"], Usage(**{each.name: kept[each.name] for each in fields(Usage) if each.name in kept})


def usage_of(message: AIMessage, model: str, prices: Prices, *, seconds: float) -> Usage:
    """What an answer of `provider:model` used up, which took some seconds."""
    told = message.usage_metadata
    read, written = (told["input_tokens"], told["output_tokens"]) if told else (0, 0)
    cached = (told.get("input_token_details") or {}).get("cache_read", 0) if told else 0
    cost = prices.cost(model, read=read, cached=cached, written=written)
    return Usage(
        model_calls=1,
        input_tokens=read,
        cached_tokens=cached,
        output_tokens=written,
        cost_usd=cost or 0.0,
        unpriced_calls=int(cost is None),
        seconds=seconds,
    )
