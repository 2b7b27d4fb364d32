"""Interceptors: what stands between the callers and the handlers of a server."""

from stigmer_grpc.interceptors.authentication import AUTHORIZATION, FORWARDED_PEER, Authentication, Authenticator
from stigmer_grpc.interceptors.call_log import Logging
from stigmer_grpc.interceptors.call_metrics import BOUNDS, CallMetrics, CodeMetrics, MethodMetrics
from stigmer_grpc.interceptors.error_mapping import ErrorMapping, ErrorTable
from stigmer_grpc.interceptors.port import CallNext, CallNextStream, StreamInterceptor, UnaryInterceptor
from stigmer_grpc.interceptors.request_id import RequestId
from stigmer_grpc.interceptors.validation import Validation, check, validator

__all__ = [
    "AUTHORIZATION",
    "BOUNDS",
    "FORWARDED_PEER",
    "Authentication",
    "Authenticator",
    "CallMetrics",
    "CallNext",
    "CallNextStream",
    "CodeMetrics",
    "ErrorMapping",
    "ErrorTable",
    "Logging",
    "MethodMetrics",
    "RequestId",
    "StreamInterceptor",
    "UnaryInterceptor",
    "Validation",
    "check",
    "default_interceptors",
    "validator",
]


def default_interceptors(
    table: ErrorTable | None = None,
    *,
    guards: tuple[UnaryInterceptor | StreamInterceptor, ...] = (),
    metrics: CallMetrics | None = None,
    log: Logging | None = None,
) -> tuple[UnaryInterceptor | StreamInterceptor, ...]:
    """Metrics if any, request id, logging, error mapping by `table`, guards, validation: in the order they belong in.

    Guards ask who calls and what they may do; `Authentication` is one.
    """
    counted = () if metrics is None else (metrics,)
    return (*counted, RequestId(), log or Logging(), ErrorMapping(table or {}), *guards, Validation())
