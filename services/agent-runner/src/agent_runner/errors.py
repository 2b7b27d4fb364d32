"""What can go wrong in a run, by who can do something about it.

    AgentRunnerError
    ├── ConfigurationError        the operator or the agent's author must change a setting
    │   ├── ModelNotConfiguredError   a model was chosen and its key or package is missing
    │   └── ScriptError               a script of the scripted model is not valid
    ├── ResourceError             the execution, session, instance or agent does not exist or does not fit
    ├── McpServerError            an MCP server that the agent cannot do without is not to be had
    ├── ModelCallError            the model provider answered with an error
    ├── WorkspaceFileError        a file of a workspace is not there, or cannot be read or written as asked
    ├── WorkspaceUnavailableError the place where the agent works cannot be used for now
    ├── JournalError              what the runner remembers cannot be read or written for now
    ├── TurnLimitError            the agent took more steps than a turn may have
    ├── AnswerError               the model gives no answer that fits the schema
    ├── BudgetExceededError       the run has used up what it may
    ├── ApprovalExpiredError      nobody decided on a tool call in time, and the agent wants to fail for it
    ├── SupersededError           another attempt has taken this turn over; stop without a word
    └── ExecutionEndedError       the server says that the execution is over or gone; stop without a word

Every error's `str` is a sentence for a person and is safe to show once the execution's secrets are taken out of it.
"""

from __future__ import annotations


class AgentRunnerError(Exception):
    """The root of this service's errors.

    Attributes:
        code: Stable name, kept in Temporal's history as the failure's type.
        transient: Whether trying again later may succeed with nothing changed.
        retry_after: Seconds after which it may, where somebody said so.
    """

    code = "AgentRunnerError"
    transient = False
    retry_after: float | None = None

    @property
    def summary(self) -> str:
        """The sentence that may stand in Temporal's history: nothing in it that a provider or a tool said."""
        return str(self)


class ConfigurationError(AgentRunnerError):
    """A setting is missing or wrong."""

    code = "ConfigurationError"


class ModelNotConfiguredError(ConfigurationError):
    """A model was chosen and something that its provider needs is missing; the message names it."""

    code = "ModelNotConfigured"


class ScriptError(ConfigurationError):
    """A script of the scripted model is missing or not valid; the message lists every problem."""

    code = "InvalidScript"


class ResourceError(AgentRunnerError):
    """A resource that the run needs does not exist or does not fit the others."""

    code = "InvalidResource"


class McpServerError(AgentRunnerError):
    """An MCP server that the agent cannot do without is not to be had."""

    code = "McpServerFailed"


class ModelCallError(AgentRunnerError):
    """The model provider answered with an error, or did not answer.

    Attributes:
        status: That of the answer, where there is one.
    """

    code = "ModelCallFailed"

    def __init__(
        self, summary: str, *, detail: str, transient: bool, retry_after: float | None = None, status: int | None = None
    ) -> None:
        super().__init__(f"{summary}: {detail}" if detail else summary)
        self.status = status
        self._summary = summary
        self.transient = transient
        self.retry_after = retry_after

    @property
    def summary(self) -> str:
        """What happened, without the provider's words."""
        return self._summary


class WorkspaceFileError(AgentRunnerError):
    """A file of a workspace cannot be read or written as asked.

    Attributes:
        missing: Whether there is no such file.
    """

    code = "WorkspaceFile"

    def __init__(self, detail: str, *, missing: bool = False) -> None:
        super().__init__(detail)
        self.missing = missing


class WorkspaceUnavailableError(AgentRunnerError):
    """The place where the agent works cannot be used for now."""

    code = "WorkspaceUnavailable"
    transient = True

    def __init__(self, detail: str) -> None:
        super().__init__(f"{self.summary}: {detail}")

    @property
    def summary(self) -> str:
        """What happened, without the words of who keeps the workspace."""
        return "the agent's workspace cannot be used"


class JournalError(AgentRunnerError):
    """What the runner remembers cannot be read or written for now."""

    code = "JournalUnavailable"
    transient = True


class TurnLimitError(AgentRunnerError):
    """The agent took more steps than one turn may have."""

    code = "TurnLimitReached"


class AnswerError(AgentRunnerError):
    """The model gives no answer that fits the schema."""

    code = "NoAnswer"


class BudgetExceededError(AgentRunnerError):
    """The run has used up what it may."""

    code = "BudgetExceeded"


class ApprovalExpiredError(AgentRunnerError):
    """Nobody decided on a tool call in time."""

    code = "ApprovalExpired"


class SupersededError(AgentRunnerError):
    """Another attempt runs this turn now; nothing may be written any more."""

    code = "Superseded"


class ExecutionEndedError(AgentRunnerError):
    """The execution is deleted or has reached a final phase; nothing may be reported any more."""

    code = "ExecutionEnded"
