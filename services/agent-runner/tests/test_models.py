"""Which model is chosen, with which key, and what the scripted one says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agent_runner.errors import ModelNotConfiguredError, ScriptError
from agent_runner.loopback.openai import OpenAIServer
from agent_runner.models.access import Access, read_headers
from agent_runner.models.catalog import ModelCatalog, ModelChoice, ModelSettings
from agent_runner.models.marks import SENT
from agent_runner.models.script import load_script, parse_script
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI
from stigmer_sandbox import OutboundPolicy


def choose(name: str = "", of_execution: dict[str, str] | None = None, /, **settings: Any) -> ModelChoice:
    return ModelCatalog(ModelSettings(**settings)).choose(name, environment=of_execution or {})


def reached(choice: ModelChoice) -> tuple[str, str]:
    return choice.access.api_key, choice.access.base_url


def test_with_nothing_configured_the_scripted_model_is_a_fallback() -> None:
    choice = choose()
    assert (str(choice), choice.fallback) == ("scripted:default", True)


def test_a_scripted_model_that_was_chosen_is_no_fallback() -> None:
    assert not choose(provider="scripted").fallback
    assert not choose("scripted:default").fallback


@pytest.mark.parametrize(
    ("variables", "provider"),
    [
        ({"ANTHROPIC_API_KEY": "a", "OPENAI_API_KEY": "o"}, "anthropic"),
        ({"OPENAI_API_KEY": "o", "OLLAMA_BASE_URL": "http://o"}, "openai"),
        ({"GOOGLE_API_KEY": "g", "OLLAMA_BASE_URL": "http://o"}, "google_genai"),
        ({"OLLAMA_BASE_URL": "http://o"}, "ollama"),
    ],
)
def test_the_provider_that_has_a_key_is_taken_from_runner_and_environment_alike(
    variables: dict[str, str], provider: str
) -> None:
    assert choose("", variables, model="some").provider == provider
    assert (
        ModelCatalog(ModelSettings(environment=variables, model="some")).choose("", environment={}).provider == provider
    )


def test_an_execution_names_a_model_of_the_runners_provider_or_of_another() -> None:
    settings: dict[str, Any] = {"provider": "openai", "model": "one", "api_key": "k"}
    assert str(choose(**settings)) == "openai:one"
    assert str(choose("two", **settings)) == "openai:two"
    assert str(choose("ollama:qwen2.5-coder:7b", **settings)) == "ollama:qwen2.5-coder:7b"


def test_any_name_with_an_address_is_a_provider_of_openais_api() -> None:
    runner = {"VLLM_BASE_URL": "http://vllm.example/v1", "MY_LAB_BASE_URL": "http://lab.example", "MY_LAB_API_KEY": "l"}
    settings: dict[str, Any] = {"environment": runner, "provider": "vllm", "model": "qwen"}
    assert str(choose(**settings)) == "vllm:qwen"
    assert reached(choose(**settings)) == ("", "http://vllm.example/v1")
    assert reached(choose("my-lab:big:7b", **settings)) == ("l", "http://lab.example")
    own = {"VLLM_API_KEY": "own"}
    assert reached(choose("vllm:qwen", own, **settings)) == ("own", "http://vllm.example/v1")
    assert reached(choose("new:qwen", {"NEW_BASE_URL": "http://new.example"}, **settings)) == (
        "",
        "http://new.example",
    )
    assert reached(choose("my-lab:big", {"MY_LAB_BASE_URL": "http://evil.example"}, **settings)) == (
        "",
        "http://evil.example",
    ), "the operator's key stays here"


def test_google_has_a_short_name() -> None:
    assert str(choose("google:gemini-2.5-pro", {"GOOGLE_API_KEY": "g"})) == "google_genai:gemini-2.5-pro"
    assert str(choose(provider="google", api_key="g")) == "google_genai:gemini-2.5-flash"


def test_headers_are_lines_or_json_and_belong_to_the_key_that_they_came_with() -> None:
    runner = {"OPENAI_API_KEY": "operator", "OPENAI_CUSTOM_HEADERS": "X-Team: core\nX-Empty:"}
    settings: dict[str, Any] = {"environment": runner, "provider": "openai", "model": "m"}
    assert choose(**settings).access.headers == (("X-Team", "core"), ("X-Empty", ""))
    assert choose("", {"OPENAI_CUSTOM_HEADERS": "X-Team: theirs"}, **settings).access.headers[0] == ("X-Team", "core")
    own = choose("", {"OPENAI_API_KEY": "own", "OPENAI_CUSTOM_HEADERS": '{"X-Team": "own", "X-N": 1}'}, **settings)
    assert own.access.headers == (("X-Team", "own"), ("X-N", "1"))
    assert choose("", {"OPENAI_API_KEY": "own"}, **settings).access.headers == ()


@pytest.mark.parametrize("text", ["{", "Bearer secret-token", "X Y: secret-token", '{"X": "secret\\ntoken"}', ": v"])
def test_headers_that_are_none_are_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ModelNotConfiguredError, match="OPENAI_CUSTOM_HEADERS") as caught:
        read_headers("OPENAI_CUSTOM_HEADERS", text)
    assert "secret" not in str(caught.value)


def test_an_authority_of_an_environment_is_no_path() -> None:
    with pytest.raises(ModelNotConfiguredError, match="OPENAI_CA"):
        choose("openai:m", {"OPENAI_API_KEY": "k", "OPENAI_CA": "/etc/passwd"})
    broken = {"OPENAI_API_KEY": "k", "OPENAI_CA": "-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----"}
    catalog = ModelCatalog(ModelSettings())
    with pytest.raises(ModelNotConfiguredError, match="no certificates"):
        catalog.make(catalog.choose("openai:m", environment=broken))


async def test_an_environments_address_leads_where_the_runner_lets_requests_go() -> None:
    catalog = ModelCatalog(ModelSettings(outbound=OutboundPolicy(allow_loopback=False)))
    for address in ("http://127.0.0.1:1/v1", "http://169.254.169.254/latest", "http://user@x.example/", "ftp://x"):
        choice = catalog.choose("openai:m", environment={"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": address})
        with pytest.raises(ModelNotConfiguredError, match="OPENAI_BASE_URL"):
            await catalog.check((choice,))
    operators = ModelSettings(environment={"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"})
    choice = ModelCatalog(operators).choose("openai:m", environment={})
    await catalog.check((choice,))


def test_a_colon_inside_a_models_name_is_no_provider() -> None:
    assert str(choose("qwen2.5-coder:7b", provider="ollama")) == "ollama:qwen2.5-coder:7b"


def test_the_runners_one_key_is_for_its_own_provider_only() -> None:
    settings: dict[str, Any] = {"provider": "anthropic", "api_key": "for-anthropic"}
    assert choose(**settings).access.api_key == "for-anthropic"
    with pytest.raises(ModelNotConfiguredError, match="OPENAI_API_KEY"):
        choose("openai:gpt", **settings)


def test_an_environments_address_never_gets_the_runners_key() -> None:
    runner = {"OPENAI_API_KEY": "the-operators", "OPENAI_BASE_URL": "https://operator.example/v1"}
    catalog = ModelCatalog(ModelSettings(environment=runner, provider="openai", model="m"))
    both = catalog.choose("", environment={"OPENAI_API_KEY": "own", "OPENAI_BASE_URL": "https://own.example/v1"})
    only_address = catalog.choose("", environment={"OPENAI_BASE_URL": "https://evil.example/v1"})
    only_key = catalog.choose("", environment={"OPENAI_API_KEY": "own"})

    assert reached(both) == ("own", "https://own.example/v1")
    assert reached(only_address) == ("the-operators", "https://operator.example/v1")
    assert reached(only_key) == ("own", "")


@pytest.mark.parametrize(
    ("name", "settings", "named"),
    [
        ("anthropic:claude", {}, "ANTHROPIC_API_KEY"),
        ("", {"provider": "openai", "api_key": "k"}, "STIGMER_LLM_MODEL"),
        ("gpt-unknown", {}, "STIGMER_LLM_PROVIDER"),
        ("", {"provider": "mistralai", "model": "large"}, "MISTRALAI_API_KEY"),
    ],
)
def test_what_is_missing_is_named(name: str, settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelNotConfiguredError, match=named):
        choose(name, **settings)


def test_a_provider_without_its_package_is_said_to_need_one() -> None:
    catalog = ModelCatalog(ModelSettings(provider="mistralai", model="large", api_key="k"))
    with pytest.raises(ModelNotConfiguredError, match="package"):
        catalog.make(catalog.choose("", environment={}))


@pytest.mark.parametrize(
    ("provider", "model", "attribute"),
    [
        ("openai", "gpt", "openai_api_base"),
        ("anthropic", "claude", "anthropic_api_url"),
        ("google_genai", "gemini", "base_url"),
        ("ollama", "qwen", "base_url"),
    ],
)
def test_models_are_made_with_the_runners_settings(provider: str, model: str, attribute: str) -> None:
    settings = ModelSettings(
        provider=provider, model=model, api_key="k", base_url="http://127.0.0.1:9/v1", temperature=0.5, max_tokens=99
    )
    catalog = ModelCatalog(settings)
    made: Any = catalog.make(catalog.choose("", environment={}))
    assert getattr(made, attribute) == "http://127.0.0.1:9/v1"
    assert made.temperature == 0.5
    assert 99 in [getattr(made, name, None) for name in ("max_tokens", "max_output_tokens", "num_predict")]


async def test_a_request_to_openais_api_is_what_its_package_makes_of_it(openai_server: OpenAIServer) -> None:
    choice = ModelChoice(provider="openai", model="test", access=Access(api_key="sk-1", base_url=openai_server.url))
    made: Any = ModelCatalog(ModelSettings()).make(choice)
    plain: Any = ChatOpenAI(
        model="test", api_key=lambda: "sk-1", base_url=openai_server.url, use_responses_api=False, timeout=600
    )
    openai_server.replies["Help."] = [{}, {"text": "It is 3."}]
    call = {"id": "c1", "name": "add", "args": {"a": 1, "b": 2}}
    said = [
        SystemMessage("Help."),
        HumanMessage([{"type": "text", "text": "1 + 2?"}, {"type": "image_url", "image_url": {"url": "data:,x"}}]),
        AIMessage("Adding.", tool_calls=[call]),
        ToolMessage("3", tool_call_id="c1"),
    ]
    tool = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}
    for model in (made, plain):
        answer = await model.bind(tools=[tool], extra_body={"top_k": 5}).ainvoke(said)
        assert answer.content == "It is 3."
    ours, theirs = openai_server.calls
    assert len(ours["messages"]) == len(said)
    assert ours == theirs


def test_a_key_is_not_shown_by_repr() -> None:
    choice = choose("openai:m", {"OPENAI_API_KEY": "sk-hidden"})
    assert "sk-hidden" not in f"{choice!r}{choice}{ModelSettings(api_key='sk-hidden')!r}"


async def test_the_scripted_model_finds_its_place_in_the_conversation(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        """
        conversations:
          - {when: "^hello", turns: [{text: Hi.}]}
          - turns:
              - tool_calls: [{name: look, args: {at: "$message", deep: [{in: "$message"}]}}]
              - {text: "I saw $result for $$5"}
        """
    )
    catalog = ModelCatalog(ModelSettings(scripts=tmp_path))
    model = catalog.make(catalog.choose("scripted:s", environment={}))
    asked = HumanMessage("the sea")
    first = await model.ainvoke([asked])
    second = await model.ainvoke([asked, first, ToolMessage("water", tool_call_id=first.tool_calls[0]["id"] or "")])
    greeted = await model.ainvoke([asked, first, second, HumanMessage("Hello you")])

    assert first.tool_calls[0]["args"] == {"at": "the sea", "deep": [{"in": "the sea"}]}
    assert second.text == "I saw water for $5"
    assert greeted.text == "Hi."
    with pytest.raises(ScriptError, match="asked for one more"):
        await model.ainvoke([asked, first, second])


async def test_a_script_goes_on_when_somebody_says_something_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text("turns: [{text: 'One of $message'}, {text: 'Two of $message'}]")
    catalog = ModelCatalog(ModelSettings(scripts=tmp_path))
    model = catalog.make(catalog.choose("scripted:long", environment={}))
    sent = HumanMessage("Louder", additional_kwargs={SENT: True})
    talk: list[Any] = [HumanMessage("Go"), AIMessage("One of Go"), sent]
    for answer in ("Two of Go", "One of Louder", "Two of Louder"):
        said = await model.ainvoke(talk)
        assert said.text == answer
        talk += [said, sent] if answer == "Two of Go" else [said]
    with pytest.raises(ScriptError, match="one more"):
        await model.ainvoke(talk)


async def test_the_scripted_model_streams_what_it_answers() -> None:
    catalog = ModelCatalog(ModelSettings())
    model = catalog.make(catalog.choose("", environment={}))
    chunks = [chunk async for chunk in model.astream([HumanMessage("one two")])]
    whole = await model.ainvoke([HumanMessage("one two")])
    assert len(chunks) > 5
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert isinstance(whole, AIMessage)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("turns: [", "not YAML"),
        ("turns: []", "either conversations or turns"),
        ("turns: [{}]", "a turn needs text"),
        ("turns: [{text: a, delya: 3}]", "turns.0.delya"),
        ("conversations: [{when: '(', turns: [{text: a}]}]", "not a regular expression"),
        ("turns: [{text: a, delay: -1}, {error: {kind: odd}}]", "turns.1.error.kind"),
    ],
)
def test_a_wrong_script_is_refused_with_its_problem(text: str, problem: str) -> None:
    with pytest.raises(ScriptError) as caught:
        parse_script(text, name="mine")
    assert problem in str(caught.value)
    assert "mine" in str(caught.value)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "", "a.yaml"])
def test_a_scripts_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ScriptError, match="not a script's name"):
        load_script(name, folder=tmp_path)


def test_a_missing_script_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="STIGMER_SCRIPTS_FOLDER"):
        load_script("mine", folder=None)
    with pytest.raises(ScriptError, match=r"no mine\.yaml"):
        load_script("mine", folder=tmp_path)
