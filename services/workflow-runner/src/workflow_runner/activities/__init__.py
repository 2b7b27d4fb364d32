"""Everything that reaches outside: loading a run, reporting it, and calls."""

from workflow_runner.activities.a2a import A2aCalls
from workflow_runner.activities.agent_files import AgentFiles
from workflow_runner.activities.agents import Agents
from workflow_runner.activities.asyncapi import AsyncApiCalls
from workflow_runner.activities.authentication import Authentication
from workflow_runner.activities.calls import Calls
from workflow_runner.activities.catalogs import Catalogs
from workflow_runner.activities.confinement import Confinement
from workflow_runner.activities.containers import Containers, find_engine
from workflow_runner.activities.events import Events
from workflow_runner.activities.executions import Executions
from workflow_runner.activities.grpc import GrpcCalls
from workflow_runner.activities.head_start import HeadStart
from workflow_runner.activities.http import HttpCalls
from workflow_runner.activities.load import Loading
from workflow_runner.activities.mcp import McpCalls
from workflow_runner.activities.openapi import OpenApiCalls
from workflow_runner.activities.processes import Processes
from workflow_runner.activities.report import Reporting
from workflow_runner.activities.requests import Requests
from workflow_runner.activities.resources import Resources
from workflow_runner.activities.schedules import Schedules
from workflow_runner.activities.schemas import Schemas
from workflow_runner.activities.subflows import Subflows
from workflow_runner.activities.tokens import Tokens
from workflow_runner.activities.values import Values

__all__ = [
    "A2aCalls",
    "AgentFiles",
    "Agents",
    "AsyncApiCalls",
    "Authentication",
    "Calls",
    "Catalogs",
    "Confinement",
    "Containers",
    "Events",
    "Executions",
    "GrpcCalls",
    "HeadStart",
    "HttpCalls",
    "Loading",
    "McpCalls",
    "OpenApiCalls",
    "Processes",
    "Reporting",
    "Requests",
    "Resources",
    "Schedules",
    "Schemas",
    "Subflows",
    "Tokens",
    "Values",
    "find_engine",
]
