"""The engine that runs executions: Temporal, seen from the server, which needs very little of it.

`port` says what the engine promises and what it needs, `dispatch` carries out what executions need, `watch` looks after
runs that have gone quiet, `temporal` speaks to Temporal. Temporal's library is imported when an engine connects, and
never by a server without one.
"""

from stigmer_server.engine.dispatch import TemporalEngine
from stigmer_server.engine.port import Engine, NoEngine

__all__ = ["Engine", "NoEngine", "TemporalEngine"]
