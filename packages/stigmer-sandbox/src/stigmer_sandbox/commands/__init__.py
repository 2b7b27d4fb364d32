"""Running commands that somebody else wrote."""

from stigmer_sandbox.commands.host import HostSandbox, NoSandbox
from stigmer_sandbox.commands.local import LocalSandbox
from stigmer_sandbox.commands.port import WORKSPACE, Command, Ending, Finished, Limits, Pipes, Sandbox, Talk
from stigmer_sandbox.commands.scratch import checked_name, put_files

__all__ = [
    "WORKSPACE",
    "Command",
    "Ending",
    "Finished",
    "HostSandbox",
    "Limits",
    "LocalSandbox",
    "NoSandbox",
    "Pipes",
    "Sandbox",
    "Talk",
    "checked_name",
    "put_files",
]
