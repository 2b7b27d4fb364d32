"""What runs use up and may use up, models that stand in for others, and answers that have a schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agent_runner.errors import ConfigurationError
from agent_runner.loopback.openai import OpenAIServer
from agent_runner.models.prices import Prices
from agent_runner.testing import Stigmer, enum_name, phase

MAIN = "You are the main agent."
DONE, FAILED = "EXECUTION_COMPLETED", "EXECUTION_FAILED"
LOOKS = "{name: ls, args: {path: /}}"
USED = "usage: {input: 1000, output: 100}"


def openai(server: OpenAIServer) -> dict[str, Any]:
    return {"env": {"OPENAI_BASE_URL": server.url}, "secrets": {"OPENAI_API_KEY": "sk-usage"}}


async def test_an_execution_and_its_session_tell_what_they_used(stigmer: Stigmer) -> None:
    text = f"turns:\n  - {{tool_calls: [{LOOKS}], {USED}}}\n  - {{text: done, {USED}}}\n"
    model = stigmer.stack.script("used", text)
    first = await stigmer.execute(await stigmer.agent(), "Go", model=model)
    status = await stigmer.finish(first.metadata.id)
    usage = status.usage
    assert (usage.model_calls, usage.input_tokens, usage.output_tokens, usage.unpriced_calls) == (2, 2000, 200, 0)
    second = await stigmer.execute("", "Again", model=model, session=first.spec.session_id)
    status = await stigmer.finish(second.metadata.id)
    assert (status.usage.model_calls, status.session_usage.model_calls) == (2, 4)
    assert (status.usage.input_tokens, status.session_usage.input_tokens) == (2000, 4000)


async def test_each_answer_and_each_sub_agent_tells_what_it_used(own_stigmer: Stigmer) -> None:
    asks = "{name: task, args: {subagent_type: helper, description: Look}}"
    wait = "{name: execute, args: {command: touch here && sleep 2}}"
    main = f"{{tool_calls: [{asks}], {USED}}}, {{tool_calls: [{wait}], {USED}}}, {{text: done, {USED}}}"
    helper = f"{{tool_calls: [{LOOKS}], {USED}}}, {{text: seen, {USED}}}"
    text = f"conversations: [{{turns: [{main}]}}, {{agent: helper, turns: [{helper}]}}]"
    model = own_stigmer.stack.script("each", text)
    worker = await own_stigmer.stack.start_runner()
    helper_agent = {"name": "helper", "description": "Looks.", "instructions": "You are the helper."}
    execution = await own_stigmer.execute(await own_stigmer.agent(sub_agents=[helper_agent]), "Go", model=model)

    def runs(status: Any) -> bool:
        return any(
            call.name == "execute" and enum_name(call, "status").endswith("RUNNING") for call in status.tool_calls
        )

    await own_stigmer.follow(execution.metadata.id, runs)
    worker.kill()
    await worker.wait()
    await own_stigmer.stack.start_runner()
    status = await own_stigmer.finish(execution.metadata.id)

    answers = [each.metadata for each in status.messages if enum_name(each, "type") == "MESSAGE_AI"]
    assert [each["model"] for each in answers] == [model] * 3
    assert [each["usage"]["input_tokens"] for each in answers] == [1000] * 3
    (sub_agent,) = status.sub_agent_executions
    assert (sub_agent.metadata["usage"]["model_calls"], sub_agent.metadata["usage"]["output_tokens"]) == (2, 200)
    assert status.usage.input_tokens == 5000


async def test_costs_are_those_of_the_operators_prices(own_stigmer: Stigmer, openai_server: OpenAIServer) -> None:
    prices = own_stigmer.stack.folder / "prices.yaml"
    prices.write_text("- {model: 'openai:dear', input: 1000000, cached: 0, output: 2000000}\n")
    await own_stigmer.stack.start_runner(STIGMER_PRICES_FILE=str(prices))
    openai_server.replies[MAIN] = [{"text": "done"}]
    agent = await own_stigmer.agent(MAIN, budget={"maxCostUsd": 4})
    status = await own_stigmer.run(agent, "Go", model="openai:dear", **openai(openai_server))
    assert (status.usage.cost_usd, status.usage.unpriced_calls) == (3.0, 0)
    assert len(status.messages) == 2
    status = await own_stigmer.run(agent, "Go", model="openai:nobody-knows-its-price", **openai(openai_server))
    assert (status.usage.cost_usd, status.usage.unpriced_calls) == (0.0, 1)
    assert any("4 US dollars does not bound calls of openai:nobody" in each.content for each in status.messages)
    openai_server.replies[MAIN] = [{"tool_calls": [("ls", {"path": "/"})]}] * 3
    agent = await own_stigmer.agent(MAIN, budget={"maxCostUsd": 4})
    status = await own_stigmer.run(agent, "Go", model="openai:dear", **openai(openai_server))
    assert (phase(status), status.usage.model_calls) == (FAILED, 2)
    assert status.error == "the run has used up its budget of 4 US dollars (6.0000 used)"


@pytest.mark.parametrize(
    ("budget", "calls", "said"),
    [
        ({"maxModelCalls": 2}, 2, "2 calls of models"),
        ({"maxTokens": 1500}, 2, "1500 tokens (2200 used)"),
        ({"maxSeconds": 1}, 1, "1 seconds of work"),
    ],
)
async def test_a_run_ends_when_its_budget_is_used_up(
    stigmer: Stigmer, budget: dict[str, Any], calls: int, said: str
) -> None:
    slow = "delay: 30, " if "maxSeconds" in budget else ""
    turn = f"  - {{tool_calls: [{LOOKS}], {USED}}}\n"
    text = f"turns:\n{turn}  - {{{slow}tool_calls: [{LOOKS}], {USED}}}\n  - {{text: never}}\n"
    agent = await stigmer.agent(budget=budget)
    status = await stigmer.run(agent, "Go", model=stigmer.stack.script(f"budget-{calls}-{len(said)}", text))
    assert (phase(status), status.usage.model_calls) == (FAILED, calls)
    assert status.error == f"the run has used up its budget of {said}"


async def test_another_model_answers_when_the_first_cannot(stigmer: Stigmer, openai_server: OpenAIServer) -> None:
    openai_server.replies[MAIN] = [{"status": 401, "message": "no"}]
    spare = stigmer.stack.script("spare", "turns: [{text: I am the spare.}]")
    agent = await stigmer.agent(MAIN, model="openai:first", fallbackModels=[spare])
    status = await stigmer.run(agent, "Go", **openai(openai_server))
    assert phase(status) == DONE
    assert [each.content for each in status.messages][-1] == "I am the spare."
    assert any("scripted:spare answers instead" in each.content for each in status.messages)


async def test_an_executions_model_goes_before_the_agents(stigmer: Stigmer) -> None:
    agents = stigmer.stack.script("of-agent", "turns: [{text: The agent's.}]")
    own = stigmer.stack.script("of-execution", "turns: [{text: The execution's.}]")
    agent = await stigmer.agent(model=agents)
    assert (await stigmer.run(agent, "Go")).messages[-1].content == "The agent's."
    assert (await stigmer.run(agent, "Go", model=own)).messages[-1].content == "The execution's."


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def gives(arguments: str) -> str:
    return f"  - tool_calls: [{{name: give_answer, args: {arguments}}}]\n"


async def test_an_answer_is_asked_for_again_until_it_fits_its_schema(stigmer: Stigmer) -> None:
    text = (
        "turns:\n  - text: Ada is 36.\n"
        + gives("{name: Ada}")
        + f"  - tool_calls: [{LOOKS}, {{name: give_answer, args: {{name: Ada, age: 36}}}}]\n"
        + gives("{name: Ada, age: 36}")
    )
    agent = await stigmer.agent(outputSchema=SCHEMA)
    status = await stigmer.run(agent, "Who?", model=stigmer.stack.script("schema", text))
    assert phase(status) == DONE, status.error
    answer = status.output.struct_value.fields
    assert (answer["name"].string_value, answer["age"].number_value) == ("Ada", 36)
    assert [call.name for call in status.tool_calls] == ["ls"], "the answer is no call of a tool"


async def test_a_model_that_never_fits_fails_the_run(stigmer: Stigmer) -> None:
    text = "turns:\n" + gives("{name: 1}") * 20
    agent = await stigmer.agent(outputSchema=SCHEMA)
    status = await stigmer.run(agent, "Who?", model=stigmer.stack.script("never", text))
    assert (phase(status), status.error) == (
        FAILED,
        "the model gave no answer that fits the output schema in 5 attempts",
    )


async def test_an_answer_need_not_be_an_object(stigmer: Stigmer) -> None:
    agent = await stigmer.agent(outputSchema={"type": "array", "items": {"type": "string"}, "minItems": 2})
    text = "turns:\n" + gives("{answer: [a, b]}")
    status = await stigmer.run(agent, "Which?", model=stigmer.stack.script("array", text))
    assert [each.string_value for each in status.output.list_value.values] == ["a", "b"]


async def test_nothing_is_fetched_for_a_schema(stigmer: Stigmer, openai_server: OpenAIServer) -> None:
    schema = {"type": "object", "properties": {"a": {"$ref": f"{openai_server.url}/schema.json"}}}
    text = "turns:\n" + gives("{a: 1}")
    agent = await stigmer.agent(outputSchema=schema)
    status = await stigmer.run(agent, "Which?", model=stigmer.stack.script("remote", text))
    assert (phase(status), status.error) == (
        FAILED,
        f"the schema of the answer refers to '{openai_server.url}/schema.json', which is not in it",
    )
    assert openai_server.calls == []


async def test_a_schema_that_runs_away_ends_the_run(stigmer: Stigmer) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    text = "turns:\n" + gives("{a: " + "a" * 50 + "b}")
    agent = await stigmer.agent(outputSchema=schema)
    status = await stigmer.run(agent, "Which?", model=stigmer.stack.script("runaway", text))
    assert phase(status) == FAILED
    assert "matching a text against '^(a+)+$' failed" in status.error


def test_an_operators_file_of_prices_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    for text in ("- {model: a}", "- [", "a: 1", "- {model: a, input: -1, cached: 0, output: 0}"):
        (tmp_path / "prices.yaml").write_text(text)
        with pytest.raises(ConfigurationError, match=r"prices\.yaml"):
            Prices.load(tmp_path / "prices.yaml")
    with pytest.raises(ConfigurationError, match="STIGMER_PRICES_FILE"):
        Prices.load(tmp_path / "nothing.yaml")


def test_the_first_price_that_fits_counts_and_cached_tokens_cost_their_own() -> None:
    prices = Prices.load()
    million = {"read": 1_000_000, "cached": 500_000, "written": 1_000_000}
    assert prices.cost("anthropic:claude-sonnet-4-6", **million) == pytest.approx(1.5 + 0.15 + 15)
    assert prices.cost("openai:gpt-4o-mini", **million) == pytest.approx(0.075 + 0.0375 + 0.6)
    assert prices.cost("ollama:any", **million) == 0
    assert prices.cost("somebody:unknown", **million) is None
