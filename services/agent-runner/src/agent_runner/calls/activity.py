"""The activity that asks models for workflows: thin, between Temporal and the question.

What travels through Temporal has symbols where secrets are. They are filled in here, and taken out of every answer;
an error of the call is an answer, too, in the words of the workflow language.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from loguru import logger
from stigmer_dsl.errors import STANDARD, MissingSecretError, WorkflowError
from stigmer_dsl.secrets import fill_secrets, mask_secrets
from stigmer_grpc.errors import RpcError
from stigmer_runner.redaction import Redactor
from stigmer_runner.server import Environments
from temporalio import activity

from agent_runner import contract
from agent_runner.activities import alive, handed_over, server_away
from agent_runner.calls.question import Reply, answered, question_of
from agent_runner.errors import AgentRunnerError, AnswerError, ConfigurationError, ModelCallError, ResourceError
from agent_runner.models.access import secrets_in
from agent_runner.models.catalog import ModelCatalog, ModelChoice
from agent_runner.models.prices import Prices
from agent_runner.turn.answers import check_schema
from agent_runner.turn.failures import classify

MODEL = "STIGMER_LLM_MODEL"
"""Variable of an execution that says which model answers where a task names none."""
_DIGITS = 6
"""Of US dollars."""


class ModelCalls:
    """Asks models for workflows.

    Args:
        environments: Variables and secrets of executions, where models' keys are looked up.
        models: Makes models.
        prices: What they cost.
        keys: Secrets of this process, which nobody is told.
    """

    def __init__(
        self, *, environments: Environments, models: ModelCatalog, prices: Prices, keys: Sequence[str]
    ) -> None:
        self._environments = environments
        self._models = models
        self._prices = prices
        self._keys = tuple(keys)

    @activity.defn(name=contract.ASK_MODEL)
    async def ask(self, request: Any) -> Any:
        """Ask the model; gives `output` with its content, model and usage, or `error`.

        Raises:
            ApplicationError: The server is away, or this worker goes: ask again, unless it is not retryable.
        """
        try:
            async with alive():
                return await self._ask(request)
        except RpcError as error:
            raise server_away(error) from None
        except asyncio.CancelledError:
            details = activity.cancellation_details()
            if details is not None and details.worker_shutdown and not details.cancel_requested:
                raise handed_over() from None
            raise

    async def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        environment = await self._environments.get(request["execution_id"], run=request["run"])
        redactor = Redactor((*environment.secrets.values(), *secrets_in(environment.secrets), *self._keys))
        seconds: float = request["seconds"]
        try:
            arguments = fill_secrets(request["arguments"], environment.values, nonce=request["nonce"])
            choice = self._choice(arguments, environment.values)
            await self._models.check((choice,))
            with _in_our_words(str(choice), redactor):
                # In a thread: the first use of a provider imports its package, which takes seconds.
                model = await asyncio.to_thread(self._models.make, choice)
                async with asyncio.timeout(seconds):
                    reply = await answered(question_of(arguments), model, str(choice), self._prices)
        except TimeoutError:
            error = WorkflowError.standard("timeout", f"the model gave no answer within {seconds:g} seconds")
        except MissingSecretError as missing:
            error = WorkflowError.standard("authorization", f"the execution's environment has no {missing}")
        except AgentRunnerError as known:
            error = _problem(known)
        else:
            self._record(request["execution_id"], reply, redactor)
            return {"output": redactor.value(_answer(choice, reply))}
        return {"error": mask_secrets(redactor.value(error.to_dict()))}

    def _choice(self, arguments: Mapping[str, Any], variables: Mapping[str, str]) -> ModelChoice:
        if arguments["schema"] is not None:
            check_schema(arguments["schema"])
        return replace(
            self._models.choose(arguments["model"] or variables.get(MODEL, ""), environment=variables),
            temperature=arguments["temperature"],
            max_tokens=arguments["max_tokens"],
            retries=0,  # when it is asked again is for the workflow to say
        )

    def _record(self, execution: str, reply: Reply, redactor: Redactor) -> None:
        recorder = self._models.recorder
        if recorder is None:
            return
        messages, answer = reply.last
        try:
            recorder.note(execution, agent="", messages=messages, answer=answer, redact=redactor.value)
        except OSError as error:
            logger.warning("the recording of {} goes no further: {}", execution, error)


@contextlib.contextmanager
def _in_our_words(model: str, redactor: Redactor) -> Generator[None]:
    """Tell what goes wrong in this runner's words; what the provider's package says may hold anything.

    Raises:
        AgentRunnerError: Something did.
    """
    try:
        yield
    except TimeoutError:
        raise  # our own: those of a provider's package are wrapped
    except Exception as error:
        known = classify(error, model=model)
        if known is not None:
            raise known from None
        if activity.is_worker_shutdown():
            raise  # what goes wrong while this worker goes away may go well on another
        logger.error("a model could not be asked: {}", redactor.text("".join(traceback.format_exception(error))))
        raise AgentRunnerError(f"the model {model} could not be asked ({type(error).__name__})") from None


def _answer(choice: ModelChoice, reply: Reply) -> dict[str, Any]:
    used = reply.usage
    usage = {
        "model_calls": used.model_calls,
        "input_tokens": used.input_tokens,
        "cached_tokens": used.cached_tokens,
        "output_tokens": used.output_tokens,
        # What is not known is not said to be nothing.
        **({} if used.unpriced_calls else {"cost_usd": round(used.cost_usd, _DIGITS)}),
    }
    return {"content": reply.content, "model": str(choice), "usage": usage}


def _problem(error: AgentRunnerError) -> WorkflowError:
    """The error in the words of the workflow language."""
    match error:
        case ModelCallError():
            standard = STANDARD["communication"]
            return WorkflowError(
                type=standard.type,
                status=error.status or standard.status,
                title=standard.title,
                detail=str(error),
                retry_after=error.retry_after,
            )
        case ConfigurationError() | ResourceError():
            return WorkflowError.standard("configuration", str(error))
        case AnswerError():
            return WorkflowError.standard("validation", str(error))
        case _:
            return WorkflowError.standard("runtime", str(error))
