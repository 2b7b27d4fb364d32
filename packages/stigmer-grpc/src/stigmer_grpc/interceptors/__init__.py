"""Interceptors: what stands between the callers and the handlers of a server."""

from stigmer_grpc.interceptors.authentication import AUTHORIZATION, FORWARDED_PEER, Authentication, Authenticator
from stigmer_grpc.interceptors.call_log import Logging
from stigmer_grpc.interceptors.call_metrics import BOUNDS, CallMetrics, CodeMetrics, MethodMetrics
from stigmer_grpc.interceptors.outcome import ErrorTable, Outcome
from stigmer_grpc.interceptors.port import CallNext, CallNextStream, StreamInterceptor, UnaryInterceptor
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
    "ErrorTable",
    "Logging",
    "MethodMetrics",
    "Outcome",
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
    """Traces if any, what counts, maps and logs, guards, validation: in order.

    Guards ask who calls and what they may do; `Authentication` is one.
    """
    traced = () if tracing is None else (tracing,)
    return (*traced, Outcome(table, metrics=metrics, log=log), *guards, Validation())
