"""What a person wants to run: something that a file declares, or something that is stored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stigmer_cli.applying import apply_all
from stigmer_cli.manifests import Manifest, load, read_files
from stigmer_cli.resources import Message, Resources
from stigmer_cli.runs.start import find, pick


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A workflow or an agent, and what its file declares beside it."""

    what: str
    org: str
    manifests: tuple[Manifest, ...]
    chosen: Manifest | None
    """None: `what` is no file but a reference."""

    @classmethod
    def read(cls, what: str, *, name: str, org: str) -> Declared:
        """Read the file, the folder or standard input that `what` names; leave a reference for later.

        Raises:
            InvalidInputError: A file is wrong, or it does not tell what to run.
        """
        if what != "-" and not Path(what).exists() and not what.endswith((".yaml", ".yml", ".json")):
            return cls(what=what, org=org, manifests=(), chosen=None)
        from stigmer_cli.commands.validate import invalid

        manifests, problems = load(read_files([what]), org=org)
        if problems:
            raise invalid(problems)
        return cls(what=what, org=org, manifests=tuple(manifests), chosen=pick(manifests, name))

    async def store(self, resources: Resources) -> Message:
        """Return the workflow or agent as it is stored, after storing what the file declares.

        Raises:
            InvalidInputError: A reference means something that cannot be run.
            NotFoundError: A reference means nothing.
        """
        if self.chosen is None:
            return await find(resources, self.what, org=self.org)
        for outcome in await apply_all(resources, self.manifests):
            if outcome.manifest is self.chosen:
                return outcome.resource
        raise AssertionError(self.chosen)
