"""Everything that reaches outside: loading a run, reporting it, and calls."""

from workflow_runner.activities.calls import Calls
from workflow_runner.activities.http import HttpCalls
from workflow_runner.activities.load import Loading
from workflow_runner.activities.processes import Processes
from workflow_runner.activities.report import Reporting

__all__ = ["Calls", "HttpCalls", "Loading", "Processes", "Reporting"]
