"""What a person should know when a turn begins, because it holds less than the agent's author may think."""

from __future__ import annotations

from agent_runner.models.prices import Prices
from agent_runner.turn.approvals import ASK_PERSON, ApprovalPolicy
from agent_runner.turn.effects import BUILT_IN
from agent_runner.turn.taken import Plan

BUILT_IN_TOOLS = frozenset({*BUILT_IN, "execute", "web_fetch", ASK_PERSON})
"""Tools that a policy may name where an agent has them not: another runner, or another setting, gives them."""
_GLOB = frozenset("*?[")


def notices(plan: Plan, prices: Prices) -> dict[str, str]:
    """The notices of a turn, by a key each."""
    return {**plan.equipment.tools.notices, **_unpriced(plan, prices), **_unfit(plan)}


def _unpriced(plan: Plan, prices: Prices) -> dict[str, str]:
    """A bound of the cost, where it cannot be held."""
    bound = plan.definition.budget.cost_usd
    names = [str(each) for each in plan.choices if prices.cost(str(each), read=0, cached=0, written=0) is None]
    if not bound or not names:
        return {}
    text = (
        f"The budget of {bound:g} US dollars does not bound calls of {', '.join(names)}: the price is not known. "
        "STIGMER_PRICES_FILE of the runner can say it, and bounds of calls and tokens hold without."
    )
    return {"unpriced": text}


def _unfit(plan: Plan) -> dict[str, str]:
    """Policies that name tools which the agent has not."""
    missing = [each for each in plan.definition.approvals if _is_unfit(each, plan)]
    if not missing:
        return {}
    told = ", ".join(sorted({repr(each.tool) for each in missing}))
    return {"policies": f"The agent has no tool {told}, which an approval policy names."}


def _is_unfit(policy: ApprovalPolicy, plan: Plan) -> bool:
    if _GLOB & set(policy.tool) or policy.tool in BUILT_IN_TOOLS:
        return False
    origins = plan.equipment.tools.origins
    return all(policy.tool not in (name, origin.tool) for name, origin in origins.items())
