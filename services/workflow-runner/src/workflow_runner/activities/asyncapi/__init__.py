"""Messages by AsyncAPI documents, whatever protocol their brokers speak."""

from workflow_runner.activities.asyncapi.calls import AsyncApiCalls

__all__ = ["AsyncApiCalls"]
