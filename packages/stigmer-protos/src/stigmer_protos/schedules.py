# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of schedules of workflows: when they start by themselves."""

from stigmer_protos._gen.ai.stigmer.schedules.v1 import (
    FireScheduleRequest as FireScheduleRequest,
    ListSchedulesRequest as ListSchedulesRequest,
    PauseScheduleRequest as PauseScheduleRequest,
    Schedule as Schedule,
    ScheduleList as ScheduleList,
    ScheduleRef as ScheduleRef,
    StartedExecution as StartedExecution,
)
