"""Chains of runs, each of which started the next: by running its workflow, or by an event that it starts on.

A mistake makes them endless, so they are bounded: the last one may start no further. Workflow code.
"""

from stigmer_dsl.errors import WorkflowError

from workflow_runner.messages import Limits

DEPTH = "stigmerdepth"
"""Extension attribute of an event: how many runs started one another down to the one that it is of."""


def depth_of(limits: Limits) -> int:
    """Return how many runs started one another down to this one."""
    return limits.get("call_depth", 0)


def refuse_endless(limits: Limits, what: str) -> None:
    """Refuse to start a run, or what may start one, where so many did that it looks endless; `what` names it.

    Raises:
        WorkflowError: There were as many as there may be.
    """
    depth, most = depth_of(limits), limits.get("max_call_depth")
    if most is not None and depth >= most:
        detail = (
            f"{what}: {depth} runs have started one another down to this one, which looks as if they did so for ever "
            "(STIGMER_MAX_CALL_DEPTH)"
        )
        raise WorkflowError.standard("runtime", detail)
