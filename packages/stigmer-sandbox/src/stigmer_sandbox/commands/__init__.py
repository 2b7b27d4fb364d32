"""Running commands that somebody else wrote."""

from stigmer_sandbox.commands import beneath, supervised
from stigmer_sandbox.commands.container import IMAGE, ContainerOptions, ContainerSandbox
from stigmer_sandbox.commands.engine import find_engine
from stigmer_sandbox.commands.host import HostSandbox, NoSandbox
from stigmer_sandbox.commands.local import LocalSandbox
from stigmer_sandbox.commands.port import WORKSPACE, Command, Ending, Finished, Limits, Pipes, Sandbox, Talk
from stigmer_sandbox.commands.scratch import checked_name, put_files

__all__ = [
    "IMAGE",
    "WORKSPACE",
    "Command",
    "ContainerOptions",
    "ContainerSandbox",
    "Ending",
    "Finished",
    "HostSandbox",
    "Limits",
    "LocalSandbox",
    "NoSandbox",
    "Pipes",
    "Sandbox",
    "Talk",
    "beneath",
    "checked_name",
    "find_engine",
    "put_files",
    "supervised",
]
