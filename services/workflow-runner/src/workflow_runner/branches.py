"""The branches of one fork, done side by side.

They are coroutines of the same workflow, begun in the order of the document, each a strand of its own. All that
happens to them in one turn of the loop is looked at in the order in which it happened, which is the same when replayed.
Workflow code.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from workflow_runner.checkpoint import Wreck
from workflow_runner.flow import Inside, ListFrame, Suspended
from workflow_runner.port import Block, Strand
from workflow_runner.strands import Strands


class Branches:
    """Runs the branches that have no output yet."""

    def __init__(
        self,
        *,
        block: Block,
        data: Any,
        frames: dict[str, ListFrame],
        outputs: dict[str, Any],
        compete: bool,
        make: Callable[[], Strand],
        strands: Strands,
        tell: Callable[[], None],
    ) -> None:
        """Begin.

        Args:
            block: The branches.
            data: The raw input of each.
            frames: Where those go on that had begun in an earlier history.
            outputs: What each gave, by its index; filled while they go on.
            compete: Whether the first to complete ends the others.
            make: Makes a strand.
            strands: Counts the strands of the run.
            tell: Sends what is known of the run, without waiting: the other branches may go on for long.
        """
        self._block = block
        self._data = data
        self._frames = frames
        self._outputs = outputs
        self._compete = compete
        self._strands = strands
        self._tell = tell
        indexes = [index for index in range(len(block.tasks)) if str(index) not in outputs]
        self._branches = {index: make() for index in indexes}
        self._open = len(indexes)
        self._left: dict[str, ListFrame] = {}
        self._decided: tuple[int, BaseException | None] | None = None
        self._settled = asyncio.Event()
        self._is_closing = False

    async def run(self) -> int | None:
        """Run them, and return the index of the winner, where they compete.

        Raises:
            WorkflowError: One faulted, and the others were cancelled.
            EndOfWorkflow: One ended the workflow, and the others were cancelled.
            Suspended: All that had not ended are to be continued.
        """
        if self._open == 0:
            return None
        self._strands.split(self._open)
        tasks = [asyncio.create_task(self._run(index, strand)) for index, strand in self._branches.items()]
        try:
            await self._settled.wait()
        finally:
            self._is_closing = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return self._outcome()

    def _outcome(self) -> int | None:
        if self._decided is not None:
            winner, error = self._decided
            if error is not None:
                raise error
            return winner
        if self._left:
            inside: Inside = {"branches": {index: self._left[index] for index in sorted(self._left, key=int)}}
            raise Suspended(inside)
        return None

    async def _run(self, index: int, strand: Strand) -> None:
        decides = False
        try:
            if self._decided is not None:
                return
            frame = self._frames.get(str(index))
            self._outputs[str(index)] = await strand.run_branch(self._block, index, self._data, frame)
            decides = self._decide(index, None) if self._compete else False
        except Suspended as leaving:
            self._left[str(index)] = leaving.frame
        except BaseException as error:
            if self._is_closing:
                raise
            decides = self._decide(index, error)
        finally:
            self._over(decides=decides)

    def _decide(self, index: int, error: BaseException | None) -> bool:
        """Let this branch end the fork, unless another did."""
        if self._decided is not None:
            return False
        self._decided = (index, error)
        self._settled.set()
        return True

    def _over(self, *, decides: bool) -> None:
        """Count a branch out; the one that lets the fork go on hands its place among the strands over to it."""
        self._open -= 1
        if self._open == 0:
            self._settled.set()
        if not decides and (self._open > 0 or self._decided is not None):
            self._strands.end()
        if self._open > 0 and self._decided is None:
            self._tell()

    def wrecks(self) -> dict[str, "Wreck | ListFrame"]:
        """Where each branch is that has no output, of those that had begun; the one that ended the others is first."""
        decisive = self._decided[0] if self._decided else -1
        found: dict[str, Wreck | ListFrame] = {}
        for index in sorted(self._branches, key=lambda index: (index != decisive, index)):
            name = str(index)
            place = self._branches[index].wreck or self._left.get(name) or self._frames.get(name)
            if place is not None and name not in self._outputs:
                found[name] = place
        return found
