"""Calls of gRPC services that are known at run time only."""

from workflow_runner.activities.grpc.calls import GrpcCalls

__all__ = ["GrpcCalls"]
