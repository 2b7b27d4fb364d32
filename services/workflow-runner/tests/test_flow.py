"""Data flow and control flow, as the specification says them."""

from datetime import UTC, datetime, timedelta

import pytest
from workflow_runner.testing import Runs, StartRunner


@pytest.mark.requirement("set.object")
async def test_a_set_task_outputs_its_data_with_expressions_evaluated(runs: Runs) -> None:
    output = await runs.output("do:\n- greet: {set: {text: '${ \"hello \" + .name }', n: 3}}", {"name": "you"})
    assert output == {"text": "hello you", "n": 3}


@pytest.mark.requirement("set.expression")
async def test_a_set_task_can_be_one_expression(runs: Runs) -> None:
    assert await runs.output("do:\n- all: {set: '${ .items | map(. * 2) }'}", {"items": [1, 2]}) == [2, 4]


@pytest.mark.requirement("flow.previous", "output.run")
async def test_a_task_sees_the_transformed_output_of_the_one_before(runs: Runs) -> None:
    output = await runs.output(
        """
do:
- first: {set: {a: 1, b: 2}, output: {as: '{sum: (.a + .b)}'}}
- second: {set: {dot: '${ . }', input: '${ $input }'}}
"""
    )
    assert output == {"dot": {"sum": 3}, "input": {"sum": 3}}


@pytest.mark.requirement("input.run", "expression.task")
async def test_input_from_changes_what_the_task_sees_and_the_workflow_input_is_transformed_once(runs: Runs) -> None:
    output = await runs.output(
        """
input: {from: .order}
do:
- price: {input: {from: '{total: (.price * .count)}'}, set: {total: '${ .total }', raw: '${ $task.input.price }'}}
""",
        {"order": {"price": 5, "count": 3}},
    )
    assert output == {"total": 15, "raw": 5}


@pytest.mark.requirement("input.run", "output.run")
async def test_a_transformation_can_be_an_object(runs: Runs) -> None:
    output = await runs.output(
        """
input: {from: {who: '${ .name }', n: 1}}
do:
- pass: {set: {got: '${ . }'}, output: {as: {wrapped: '${ .got.who }'}}}
output: {as: {final: '${ .wrapped }'}}
""",
        {"name": "you"},
    )
    assert output == {"final": "you"}


@pytest.mark.requirement("flow.context", "flow.export")
async def test_export_replaces_the_context_and_sees_the_transformed_output(runs: Runs) -> None:
    output = await runs.output(
        """
do:
- one: {set: {n: 1}, output: {as: '{m: (.n + 1)}'}, export: {as: '{m: .m, out: $output.m, before: $context}'}}
- two: {set: {context: '${ $context }'}}
""",
        {"start": True},
    )
    assert output == {"context": {"m": 2, "out": 2, "before": {"start": True}}}


@pytest.mark.requirement("task.if")
async def test_a_skipped_task_passes_its_input_through_and_does_not_apply_its_then(runs: Runs) -> None:
    execution = await runs.run(
        """
do:
- one: {set: {n: 1}}
- two: {if: .n > 1, set: {n: 2}, then: end}
- three: {set: {n: '${ .n + 10 }'}}
"""
    )
    assert execution.output == {"n": 11}
    assert [task.status for task in execution.reported.values()] == [3, 5, 3]


async def test_a_condition_that_gives_no_boolean_is_an_expression_error(runs: Runs) -> None:
    error = await runs.error("do:\n- one: {if: .n, set: {n: 1}}", {"n": 3})
    assert error["type"].endswith("/errors/expression")
    assert error["instance"] == "/do/0/one"


@pytest.mark.requirement("switch.cases", "switch.default", "flow.jump")
async def test_a_switch_goes_where_the_first_case_says_and_outputs_its_input(runs: Runs) -> None:
    definition = """
do:
- which:
    switch:
    - other: {then: c}
    - big: {when: .n > 10, then: b}
    - small: {when: '${ .n > 5 }', then: a}
- a: {set: {way: a, n: '${ .n }'}, then: end}
- b: {set: {way: b, n: '${ .n }'}, then: end}
- c: {set: {way: c, n: '${ .n }'}}
"""
    assert await runs.output(definition, {"n": 7}) == {"way": "a", "n": 7}
    assert await runs.output(definition, {"n": 70}) == {"way": "b", "n": 70}
    assert await runs.output(definition, {"n": 1}) == {"way": "c", "n": 1}


@pytest.mark.requirement("switch.cases")
async def test_a_switch_without_a_matching_case_goes_on(runs: Runs) -> None:
    assert await runs.output("do:\n- w: {switch: [{no: {when: 'false', then: end}}]}\n- n: {set: {n: 1}}") == {"n": 1}


@pytest.mark.requirement("flow.exit", "flow.end", "do.sequence")
@pytest.mark.parametrize(("directive", "output"), [("exit", {"after": {"n": 2}}), ("end", {"n": 2})])
async def test_exit_ends_the_list_and_end_the_workflow_from_any_depth(
    runs: Runs, directive: str, output: object
) -> None:
    execution = await runs.run(
        f"""
do:
- outer:
    do:
    - inner:
        do:
        - one: {{set: {{n: 2}}, then: {directive}}}
        - never: {{set: {{n: 3}}}}
- last: {{set: {{after: '${{ . }}'}}}}
"""
    )
    assert execution.output == output
    assert all(task.status == 3 for task in execution.reported.values())


@pytest.mark.requirement("flow.jump")
async def test_a_jump_backwards_repeats_tasks_and_every_visit_is_reported_by_itself(runs: Runs) -> None:
    execution = await runs.run(
        """
do:
- add: {set: {n: '${ .n + 1 }'}}
- again: {switch: [{more: {when: .n < 4, then: add}}, {done: {then: last}}]}
- skipped: {set: {n: 0}}
- last: {set: {n: '${ .n * 10 }'}}
""",
        {"n": 1},
    )
    assert execution.output == {"n": 40}
    assert list(execution.reported) == [
        "/do/0/add",
        "/do/1/again",
        "/do/0/add#2",
        "/do/1/again#2",
        "/do/0/add#3",
        "/do/1/again#3",
        "/do/3/last",
    ]


@pytest.mark.requirement("flow.bounded")
async def test_backward_jumps_are_bounded(start_runner: StartRunner) -> None:
    runs = await start_runner(max_backward_jumps=5)
    error = await runs.error("do:\n- a: {set: {n: 1}}\n- b: {set: {n: 1}, then: a}")
    assert "more than 5 jumps backwards" in error["detail"]
    assert error["instance"] == "/do/1/b"


@pytest.mark.requirement("for.each")
async def test_a_loop_carries_its_data_from_one_pass_to_the_next(runs: Runs) -> None:
    output = await runs.output(
        """
do:
- begin: {set: {sum: 0, seen: []}}
- loop:
    for: {each: number, in: '$workflow.input.numbers', at: place}
    do:
    - add: {set: {sum: '${ .sum + $number }', seen: '${ .seen + [[$place, $number]] }'}}
""",
        {"numbers": [5, 7]},
    )
    assert output == {"sum": 12, "seen": [[0, 5], [1, 7]]}


@pytest.mark.requirement("for.while")
async def test_a_loop_ends_when_its_condition_is_no_longer_met(runs: Runs) -> None:
    output = await runs.output(
        """
do:
- begin: {set: {sum: 0}}
- loop:
    for: {in: '[1, 2, 3, 4]'}
    while: .sum < 3 and $index < 3
    do: [{add: {set: {sum: '${ .sum + $item }'}}}]
"""
    )
    assert output == {"sum": 3}


@pytest.mark.requirement("for.each", "for.inline")
async def test_an_empty_loop_passes_its_input_through_and_an_inline_array_is_a_collection(runs: Runs) -> None:
    definition = """
do:
- none: {for: {in: '[]'}, do: [{x: {set: {n: 0}}}]}
- two: {for: {in: [{k: 1}, {k: '${ .n }'}]}, do: [{x: {set: {n: '${ .n + $item.k }'}}}]}
"""
    assert await runs.output(definition, {"n": 4}) == {"n": 9}


async def test_what_is_no_collection_is_a_clear_error(runs: Runs) -> None:
    error = await runs.error("do:\n- loop: {for: {in: .nothing}, do: [{x: {set: {n: 0}}}]}", {})
    assert "must give an array, an object or a whole number up to 100000, not null" in error["detail"]


async def test_loops_in_loops_see_the_variables_of_both(runs: Runs) -> None:
    execution = await runs.run(
        """
do:
- begin: {set: []}
- rows:
    for: {each: row, in: '[[1, 2], [3]]'}
    do:
    - cells:
        for: {each: cell, in: $row, at: column}
        do: [{add: {set: '${ . + [[$index, $column, $cell]] }'}}]
""".replace("set: []", "set: '${ [] }'")
    )
    assert execution.output == [[0, 0, 1], [0, 1, 2], [1, 0, 3]]
    task = execution.reported["/do/1/rows[1]/do/0/cells[0]/do/0/add"]
    assert (task.iteration, task.parent_id) == (0, "/do/1/rows[1]/do/0/cells")
    assert execution.reported["/do/1/rows[1]/do/0/cells"].iteration == 1


@pytest.mark.requirement("expression.task", "expression.workflow", "expression.runtime")
async def test_descriptors_tell_of_task_workflow_and_runtime(runs: Runs) -> None:
    execution = await runs.run(
        """
do:
- tell:
    metadata: {a: 1}
    set:
      id: ${ $workflow.id }
      name: ${ $task.name }
      reference: ${ $task.reference }
      definition: ${ $task.definition.metadata }
      document: ${ $workflow.definition.document.name }
      runtime: ${ $runtime.name }
      started: ${ $task.startedAt.epoch.seconds >= $workflow.startedAt.epoch.seconds }
      hyphen: ${ $workflow.input["a-b"] }
""",
        {"a-b": 1},
    )
    assert execution.output == {
        "id": execution.id,
        "name": "tell",
        "reference": "/do/0/tell",
        "definition": {"a": 1},
        "document": "test",
        "runtime": "stigmer",
        "started": True,
        "hyphen": 1,
    }


@pytest.mark.requirement("schema.run")
@pytest.mark.parametrize(
    ("place", "definition"),
    [
        ("", "input: {schema: {document: {type: object, required: [n]}}}\ndo: [{x: {set: {a: 1}}}]"),
        ("/do/0/x", "do: [{x: {input: {schema: {document: {required: [n]}}}, set: {a: 1}}}]"),
        ("/do/0/x", "do: [{x: {set: {a: 1}, output: {schema: {document: {required: [n]}}}}}]"),
        ("/do/0/x", "do: [{x: {set: {a: 1}, export: {as: ., schema: {document: {required: [n]}}}}}]"),
        ("", "do: [{x: {set: {a: 1}}}]\noutput: {schema: {document: {required: [n]}}}"),
    ],
)
async def test_data_is_checked_by_its_schema(runs: Runs, place: str, definition: str) -> None:
    error = await runs.error(definition, {})
    assert error["type"].endswith("/errors/validation")
    assert error["status"] == 400
    assert error.get("instance", "") == place


@pytest.mark.requirement("expression.numbers")
async def test_whole_numbers_stay_whole_and_large_ones_exact(runs: Runs) -> None:
    execution = await runs.run("do:\n- x: {set: {n: '${ .n + 1 }', big: 9007199254740993, f: 1.5}}", {"n": 2})
    assert execution.output == {"n": 3, "big": "9007199254740993", "f": 1.5}
    assert execution.status.output.fields["n"].number_value == 3


@pytest.mark.requirement("task.fault", "error.instance", "error.details", "expression.error")
async def test_a_fault_fails_the_execution_with_problem_details_and_a_sentence(runs: Runs) -> None:
    execution = await runs.run("do:\n- outer: {do: [{x: {set: {n: '${ .a.b.c }'}}}]}", {"a": "text"})
    assert execution.phase == "FAILED"
    assert execution.error["instance"] == "/do/0/outer/do/0/x"
    assert execution.error["type"] == "https://serverlessworkflow.io/spec/1.0.0/errors/expression"
    assert "Cannot index" in execution.status.error
    assert [(task.task_id, task.status) for task in execution.reported.values()] == [
        ("/do/0/outer", 4),
        ("/do/0/outer/do/0/x", 4),
    ]


@pytest.mark.requirement("problems.unsupported")
async def test_a_definition_that_cannot_be_run_says_what_and_where(runs: Runs) -> None:
    error = await runs.error("do:\n- hear: {listen: {to: {one: {with: {type: signal, id: a, source: b}}}}}")
    assert error["type"].endswith("/errors/configuration")
    assert "/do/0/hear" in error["detail"]
    assert "a signal has a name" in error["detail"]


@pytest.mark.requirement("output.run")
async def test_the_workflow_output_is_transformed(runs: Runs) -> None:
    assert await runs.output("do:\n- x: {set: {n: 4}}\noutput: {as: .n}") == 4


@pytest.mark.requirement("wait.until")
async def test_a_wait_may_last_until_a_time(runs: Runs) -> None:
    begun = datetime.now(UTC)
    until = (begun + timedelta(seconds=0.7)).isoformat()
    past = '${ "2020-01-01T00:00:00Z" }'
    assert await runs.output(f"do:\n- w: {{wait: '${{ .until }}'}}\n- p: {{wait: '{past}'}}", {"until": until})
    assert datetime.now(UTC).isoformat() >= until


async def test_a_time_to_wait_for_needs_a_time_zone(runs: Runs) -> None:
    error = await runs.error("do:\n- w: {wait: '${ .until }'}", {"until": "2030-01-01T00:00:00"})
    assert (error["status"], error["instance"]) == (400, "/do/0/w")
    assert "has no time zone" in error["detail"]


@pytest.mark.requirement("for.collections", "for.inline")
@pytest.mark.parametrize(
    ("within", "seen"),
    [
        ("'{b: 1, a: 2}'", ["b=1", "a=2"]),
        ("'3'", ["0=0", "1=1", "2=2"]),
        ("[x, '${ .first }']", ["0=x", "1=y"]),
        ("'{}'", []),
        ("'0'", []),
    ],
)
async def test_a_loop_goes_through_objects_numbers_and_lists_that_stand_in_the_document(
    runs: Runs, within: str, seen: list[str]
) -> None:
    document = f"""
do:
- l:
    for: {{in: {within}}}
    do: [{{s: {{set: '${{ . }}', export: {{as: '$context + {{seen: ($context.seen + ["\\($index)=\\($item)"])}}'}}}}}}]
output: {{as: $context.seen}}
"""
    assert await runs.output(document, {"first": "y", "seen": []}) == seen


@pytest.mark.requirement("expression.loose")
async def test_loose_mode_evaluates_expressions_inside_texts_and_leaves_what_is_none(runs: Runs) -> None:
    document = "evaluate: {mode: loose}\ndo:\n- s: {set: {text: 'hello ${ .name }', n: '${ .n }', plain: hello}}"
    assert await runs.output(document, {"name": "you", "n": 3}) == {"text": "hello you", "n": 3, "plain": "hello"}


@pytest.mark.requirement("catch.then", "try.passes")
async def test_what_follows_a_caught_error_may_be_said_for_it_alone(runs: Runs) -> None:
    document = """
do:
- t:
    try: [{s: {if: .fails, raise: {error: {type: 'https://x/y', status: 400}}}}]
    catch: {then: caught}
    then: fine
- fine: {set: {was: fine}, then: end}
- caught: {set: {was: caught}}
"""
    assert await runs.output(document, {"fails": True}) == {"was": "caught"}
    assert await runs.output(document, {"fails": False}) == {"was": "fine"}


@pytest.mark.requirement("flow.tasks")
async def test_a_run_does_no_more_than_so_many_tasks_over_all_its_histories(start_runner: StartRunner) -> None:
    runs = await start_runner(max_tasks=60, max_history_events=40)
    execution = await runs.run(
        """
do:
- all:
    for: {in: '[range(30)]'}
    do:
    - each:
        try: [{rest: {wait: {milliseconds: 1}}}, {add: {set: {n: '${ $item }'}}}]
        catch: {do: [{never: {set: {n: -1}}}]}
"""
    )
    assert execution.phase == "FAILED"
    assert execution.error["detail"] == "the run has done 60 tasks, which are as many as it may (STIGMER_MAX_TASKS)"
    assert len(execution.reported) == 60
    assert not any(task.task_name == "never" for task in execution.reported.values())
    # It goes on where it was, with a count of its own.
    await (await runs.recover(execution)).result()
    assert execution.output == {"n": 29}


async def test_any_number_of_tasks_may_be_allowed(start_runner: StartRunner) -> None:
    runs = await start_runner(max_tasks=0)
    assert await runs.output("do:\n- l: {for: {in: '[range(80)]'}, do: [{s: {set: {n: '${ $item }'}}}]}") == {"n": 79}
