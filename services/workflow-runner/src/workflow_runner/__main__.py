"""The `workflow-runner` program."""

from typing import NoReturn

from stigmer_runner import run_process

from workflow_runner.settings import Settings
from workflow_runner.worker import serve


def main() -> NoReturn:
    """Run the worker with the settings of this process until it is told to stop."""
    run_process(Settings, serve)


if __name__ == "__main__":
    main()
