"""What errors of providers' packages mean, above all when to come back."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import httpx2
import openai
import pytest
from agent_runner.errors import ModelCallError
from agent_runner.turn.failures import classify
from google.genai.errors import ClientError, ServerError
from langchain_google_genai.chat_models import GoogleAPIError, GoogleRateLimitError
from langchain_openai.chat_models.base import OpenAIContextOverflowError

RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}


def response(status: int, **headers: str) -> httpx2.Response:
    request = httpx2.Request("POST", "https://provider.example/")
    return httpx2.Response(status, headers=headers, request=request)


def of_openai(**headers: str) -> openai.RateLimitError:
    return openai.RateLimitError("slow down", response=response(429, **headers), body=None)


def of_google(status: int, *details: Any, **headers: str) -> Exception:
    body = {"error": {"code": status, "message": "slow down", "status": "X", "details": list(details)}}
    if status >= 500:
        return GoogleAPIError(code=status, response_json=body, response=response(status, **headers))
    error = GoogleRateLimitError("slow down")
    error.__cause__ = ClientError(status, body, response(status, **headers))
    return error


def classified(error: Exception) -> ModelCallError:
    found = classify(error, model="openai:m")
    assert isinstance(found, ModelCallError)
    return found


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (of_openai(), None),
        (of_openai(**{"retry-after": "7.5"}), 7.5),
        (of_openai(**{"retry-after": "-3"}), 0),
        (of_openai(**{"retry-after": "99999"}), 3600),
        (of_openai(**{"retry-after": "soon"}), None),
        (of_google(429, **{"retry-after": "7"}), 7),
        (of_google(429, RETRY_INFO), 34.5),
        (of_google(503, RETRY_INFO), 34.5),
        (of_google(429), None),
    ],
)
def test_providers_say_when_to_come_back(error: Exception, seconds: float | None) -> None:
    found = classified(error)
    assert found.transient
    assert found.retry_after == seconds
    assert "slow down" in str(found)


def test_when_to_come_back_may_be_a_date() -> None:
    at = time.time() + 1000
    found = classified(of_openai(**{"retry-after": formatdate(at, usegmt=True)}))
    assert found.retry_after == pytest.approx(1000, abs=60)
    assert classified(of_openai(**{"retry-after": formatdate(at - 5000, usegmt=True)})).retry_after == 0


def test_what_waiting_does_not_mend_is_told_at_once() -> None:
    error = GoogleRateLimitError("no such model")
    error.__cause__ = ClientError(404, {"error": {"code": 404, "message": "no such model"}}, response(404))
    assert not classified(error).transient
    assert classified(ServerError(500, {"error": {"code": 500}}, response(500))).status == 500
    too_long = OpenAIContextOverflowError("too long", response=response(400), body=None)
    assert "longer than the model openai:m can take" in str(classified(too_long))
    assert not classified(too_long).transient
