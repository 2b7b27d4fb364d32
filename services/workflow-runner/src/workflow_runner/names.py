"""Names that Temporal keeps in histories. They never change: a renamed one breaks every run in flight."""

WORKFLOW = "stigmer/workflow-execution/invoke"
LOAD = "stigmer/workflow-execution/load"
REPORT = "stigmer/workflow-execution/report"
CALL_HTTP = "stigmer/workflow-execution/call-http"
CALL_GRPC = "stigmer/workflow-execution/call-grpc"
RUN_PROCESS = "stigmer/workflow-execution/run-process"
EMIT = "stigmer/workflow-execution/emit"
RECEIVE_EVENTS = "stigmer/workflow-execution/receive-events"

TASK_QUEUE = "workflow_execution_runner"

PAUSE = "stigmer.pause"
RESUME = "stigmer.resume"
SIGNAL = "stigmer.signal"
ANSWER = "stigmer.answer"
EVENT = "stigmer.event"
"""Signals from the server. Each carries an object with an `id`, by which a repeated one is known."""
