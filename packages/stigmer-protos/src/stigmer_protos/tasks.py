# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of the configuration of each kind of workflow task."""

from stigmer_protos._gen.ai.stigmer.agentic.workflow.v1.tasks import (
    AgentCallTaskConfig as AgentCallTaskConfig,
    AgentExecutionConfig as AgentExecutionConfig,
    CallActivityTaskConfig as CallActivityTaskConfig,
    CatchBlock as CatchBlock,
    ForTaskConfig as ForTaskConfig,
    ForkBranch as ForkBranch,
    ForkTaskConfig as ForkTaskConfig,
    GrpcCallTaskConfig as GrpcCallTaskConfig,
    HttpCallTaskConfig as HttpCallTaskConfig,
    HttpEndpoint as HttpEndpoint,
    ListenTaskConfig as ListenTaskConfig,
    ListenTo as ListenTo,
    RaiseTaskConfig as RaiseTaskConfig,
    RunTaskConfig as RunTaskConfig,
    SetTaskConfig as SetTaskConfig,
    SignalSpec as SignalSpec,
    SwitchCase as SwitchCase,
    SwitchTaskConfig as SwitchTaskConfig,
    TryTaskConfig as TryTaskConfig,
    WaitTaskConfig as WaitTaskConfig,
)
