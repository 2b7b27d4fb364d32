"""What tests and benchmarks of runs stand on: a gRPC peer, a web site, and a way to run documents."""

from workflow_runner.testing.peer import Execution, PeerServer, peer_server
from workflow_runner.testing.process import RunnerProcess
from workflow_runner.testing.runs import HEADER, Runs, StartRunner
from workflow_runner.testing.site import Request, Response, Site, site_server

__all__ = [
    "HEADER",
    "Execution",
    "PeerServer",
    "Request",
    "Response",
    "RunnerProcess",
    "Runs",
    "Site",
    "StartRunner",
    "peer_server",
    "site_server",
]
