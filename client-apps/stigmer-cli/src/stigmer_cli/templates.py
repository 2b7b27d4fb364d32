"""What a new project begins with."""

from __future__ import annotations

from collections.abc import Mapping

_WORKFLOW = """\
# What this project does. The language: https://github.com/open-workflow-specification/specification
document:
  dsl: 1.0.0
  namespace: default
  name: NAME
  version: 0.1.0
  summary: Sorts orders, and adds up what they are worth.

input:
  schema:
    document:
      type: object
      properties:
        orders:
          type: array
          items:
            type: object
            required: [id, amount]
            properties:
              id: {type: string}
              amount: {type: number}
  # Without an input, these.
  from: >-
    ${ {orders: (.orders // [{id: "a-1", amount: 120}, {id: "a-2", amount: 8.5}])} }

do:
  - begin:
      set: {large: [], small: [], total: 0, orders: '${ .orders }'}
  - each:
      for: {each: order, in: .orders}
      do:
        - add:
            set:
              orders: ${ .orders }
              large: '${ if $order.amount >= 100 then .large + [$order.id] else .large end }'
              small: '${ if $order.amount >= 100 then .small else .small + [$order.id] end }'
              total: ${ .total + $order.amount }
  - report:
      set: {total: '${ .total }', large: '${ .large }', small: '${ .small }'}
"""
_AGENT = """\
kind: Agent
metadata:
  name: NAME-clerk
spec:
  description: Answers questions about orders.
  instructions: Answer in one short sentence. Say so when you do not know.
"""
_README = """\
# NAME

    stigmer run .                 # run workflow.yaml here, with nothing else installed
    stigmer run . --input '{"orders": [{"id": "b-1", "amount": 300}]}'
    stigmer validate .            # check every file, offline

To keep it on a stack that stays:

    stigmer up --detach
    stigmer diff -f . --set NAME
    stigmer apply -f . --set NAME           # --prune also deletes what is declared here no more
    stigmer run NAME
    stigmer get runs

Secrets do not belong into these files: `stigmer env set NAME --secret TOKEN` asks for them.
"""
_IGNORED = """\
.env
"""


def project(name: str) -> Mapping[str, str]:
    """Return the files of a new project, by their names."""
    texts = {"workflow.yaml": _WORKFLOW, "agent.yaml": _AGENT, "README.md": _README, ".gitignore": _IGNORED}
    return {file: text.replace("NAME", name) for file, text in texts.items()}
