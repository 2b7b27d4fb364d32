"""ScheduleController: when workflows start by themselves."""

from __future__ import annotations

from stigmer_grpc import CallContext, Handler, Service, bind
from stigmer_protos import descriptors

from stigmer_server.calls import call_of
from stigmer_server.commands import control_schedule
from stigmer_server.messages import Message
from stigmer_server.queries.list_schedules import list_schedules
from stigmer_server.resources import Resources
from stigmer_server.schedules import Schedule

_PACKAGE = "ai.stigmer.schedules.v1"


def schedule_service(resources: Resources) -> Service:
    """Return the service, bound."""
    started = descriptors.message_type(f"{_PACKAGE}.StartedExecution")
    page = descriptors.message_type(f"{_PACKAGE}.ScheduleList")

    def of(context: CallContext) -> Resources:
        return resources.on_behalf_of(call_of(context))

    async def list_(request: Message, context: CallContext) -> Message:
        found, token = await list_schedules(
            of(context), request.org, page_size=request.page_size, page_token=request.page_token
        )
        return page(entries=[_message(schedule) for schedule in found], next_page_token=token)

    async def pause(request: Message, context: CallContext) -> Message:
        return _message(await control_schedule.pause(of(context), request.workflow_id, request.reason))

    async def resume(request: Message, context: CallContext) -> Message:
        return _message(await control_schedule.resume(of(context), request.workflow_id))

    async def trigger(request: Message, context: CallContext) -> Message:
        return started(execution_id=await control_schedule.trigger(of(context), request.workflow_id))

    async def fire(request: Message, context: CallContext) -> Message:
        id = await control_schedule.fire(of(context), request.workflow_id, request.key, request.scheduled_at)
        return started(execution_id=id)

    handlers: dict[str, Handler] = {
        "list": list_,
        "pause": pause,
        "resume": resume,
        "trigger": trigger,
        "fire": fire,
    }
    return bind(descriptors.pool(), f"{_PACKAGE}.ScheduleController", handlers)


def _message(schedule: Schedule) -> Message:
    message: Message = descriptors.message_type(f"{_PACKAGE}.Schedule")(
        workflow_id=schedule.workflow,
        org=schedule.org,
        workflow=schedule.name,
        triggers=schedule.plan.triggers,
        paused=schedule.paused,
        reason=schedule.reason,
        started=schedule.started,
        last_execution_id=schedule.last_execution,
        error=schedule.error,
    )
    if schedule.last_at:
        message.last_started_at.FromMilliseconds(int(schedule.last_at * 1000))
    return message
