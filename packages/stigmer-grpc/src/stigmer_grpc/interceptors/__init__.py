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
    tracing: UnaryInterceptor | None = None,
) -> tuple[UnaryInterceptor | StreamInterceptor, ...]:
    """Traces and metrics if any, request id, logging, error mapping by `table`, guards, validation: in order.

    Guards ask who calls and what they may do; `Authentication` is one.
    """
    traced = () if tracing is None else (tracing,)
    counted = () if metrics is None else (metrics,)
    return (*traced, *counted, RequestId(), log or Logging(), ErrorMapping(table or {}), *guards, Validation())
