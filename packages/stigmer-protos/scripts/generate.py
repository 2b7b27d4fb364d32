"""Generate what the package ships from the sources in `proto/`.

Usage:
    python packages/stigmer-protos/scripts/generate.py            write the generated files
    python packages/stigmer-protos/scripts/generate.py --check    write nothing; exit 1 and list the files that differ

Four things are generated, and all are committed:

- `src/stigmer_protos/descriptors.binpb`: a FileDescriptorSet of all sources and everything they import;
- `src/stigmer_protos/comments.json`: the comments of the sources, by the full name of what they are about;
- `src/stigmer_protos/_gen/`: the betterproto2 message types, one module for each proto package;
- `src/stigmer_protos/agent.py` and its neighbours (`SHORT_NAMES`): those types under names that are short to import.

The rules of `buf/validate/validate.proto` are read from the installed protovalidate, which also enforces
them, so the two cannot differ. The output depends on the versions in uv.lock and on nothing else: no
network, no clock, no absolute path.
"""

from __future__ import annotations

import argparse
import ast
import filecmp
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc_tools
from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from protovalidate import ViolationPb

PACKAGE = Path(__file__).resolve().parent.parent
PROTO = PACKAGE / "proto"
TARGET = PACKAGE / "src" / "stigmer_protos"
GOOGLE = Path(next(iter(grpc_tools.__path__))) / "_proto"
DESCRIPTORS = "descriptors.binpb"
COMMENTS = "comments.json"
CODE = "_gen"
SCRIPTS = Path(sysconfig.get_path("scripts"))
PLUGIN = SCRIPTS / "protoc-gen-python_betterproto2"
PLUGIN_OPTIONS = "client_generation=none"  # stubs come from stigmer-grpc, by the descriptor set
NOTE = "# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.\n"
SHORT_NOTE = "# ruff: noqa: I001 - one import statement for each package reads better"
# Imports that our messages have fields of. The others only serve options, which the message types do not carry.
USED_IMPORTS = {
    "google/protobuf/empty.proto",
    "google/protobuf/struct.proto",
    "google/protobuf/timestamp.proto",
}
# Module name -> what its docstring says, and the proto packages whose types it exports.
SHORT_NAMES = {
    "agent": ("agents: what they are told, which tools and skills they have", ["ai.stigmer.agentic.agent.v1"]),
    "agent_execution": (
        "agent executions: one run, its messages and tool calls",
        ["ai.stigmer.agentic.agentexecution.v1"],
    ),
    "agent_instance": ("agent instances: an agent bound to environments", ["ai.stigmer.agentic.agentinstance.v1"]),
    "api_key": ("API keys of the cloud", ["ai.stigmer.iam.apikey.v1"]),
    "commons": (
        "what all resources share: metadata, references, audit, kinds, pages",
        ["ai.stigmer.commons.apiresource", "ai.stigmer.commons.apiresource.apiresourcekind", "ai.stigmer.commons.rpc"],
    ),
    "environment": ("environments: named sets of variables and secrets", ["ai.stigmer.agentic.environment.v1"]),
    "events": ("events of organizations, as CloudEvents", ["ai.stigmer.events.v1"]),
    "execution_context": (
        "execution contexts: the values given to one run",
        ["ai.stigmer.agentic.executioncontext.v1"],
    ),
    "iam_policy": (
        "access policies of the cloud, and the permissions that methods ask for",
        ["ai.stigmer.iam.iampolicy.v1", "ai.stigmer.iam.iampolicy.v1.rpcauthorization"],
    ),
    "files": ("files of agents' workspaces", ["ai.stigmer.files.v1"]),
    "identity_account": ("accounts of people and machines in the cloud", ["ai.stigmer.iam.identityaccount.v1"]),
    "mcp_server": ("MCP servers: tools that agents share", ["ai.stigmer.agentic.mcpserver.v1"]),
    "operations": ("how a server is", ["ai.stigmer.operations.v1"]),
    "organization": ("organizations of the cloud", ["ai.stigmer.tenancy.organization.v1"]),
    "resources": ("resources of any kind: lists, versions, watches", ["ai.stigmer.resources.v1"]),
    "runtime": ("what a runner needs to know to run an execution", ["ai.stigmer.runtime.v1"]),
    "schedules": ("schedules of workflows: when they start by themselves", ["ai.stigmer.schedules.v1"]),
    "session": ("sessions: conversations with an agent", ["ai.stigmer.agentic.session.v1"]),
    "skill": ("skills: packaged instructions, pushed as an archive", ["ai.stigmer.agentic.skill.v1"]),
    "tasks": ("the configuration of each kind of workflow task", ["ai.stigmer.agentic.workflow.v1.tasks"]),
    "well_known": ("Google that the contract uses; a Timestamp field holds a datetime", ["google.protobuf"]),
    "workflow": (
        "workflows: their document, tasks and validation",
        ["ai.stigmer.agentic.workflow.v1", "ai.stigmer.agentic.workflow.v1.serverless"],
    ),
    "workflow_execution": ("workflow executions: one run and its tasks", ["ai.stigmer.agentic.workflowexecution.v1"]),
    "workflow_instance": (
        "workflow instances: a workflow bound to environments",
        ["ai.stigmer.agentic.workflowinstance.v1"],
    ),
    "workflow_runner": ("the workflow runner's own service", ["ai.stigmer.agentic.workflowrunner.v1"]),
}


def generate(into: Path) -> None:
    """Write everything that is generated below `into`."""
    sources = source_names()
    compiled = compile_sources(sources)
    modules = {file.name: file.content for file in _message_types(compiled, sources)}
    for name, content in (*((f"{CODE}/{name}", content) for name, content in modules.items()), *_facades(modules)):
        path = into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(NOTE + content, encoding="utf-8")
    comments = dict(sorted(item for file in compiled.file if file.name in sources for item in _comments(file)))
    (into / COMMENTS).write_text(json.dumps(comments, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    for file in compiled.file:
        file.ClearField("source_code_info")
    (into / DESCRIPTORS).write_bytes(compiled.SerializeToString(deterministic=True))


def source_names() -> list[str]:
    """Return the sources as protoc and imports name them."""
    return sorted(path.relative_to(PROTO).as_posix() for path in PROTO.rglob("*.proto"))


def compile_sources(sources: list[str]) -> FileDescriptorSet:
    """Compile the sources with all they import and with their comments; protoc's complaints go to stderr."""
    with tempfile.TemporaryDirectory() as scratch:
        rules, compiled = Path(scratch) / "validate.binpb", Path(scratch) / "compiled.binpb"
        rules.write_bytes(FileDescriptorSet(file=[_validate_descriptor()]).SerializeToString(deterministic=True))
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"-I{GOOGLE}"]
        command += [f"--descriptor_set_in={rules}", "--include_imports", "--include_source_info"]
        command += [f"--descriptor_set_out={compiled}", *sources]
        if subprocess.run(command, check=False).returncode:
            sys.exit("protoc refused the sources")
        return FileDescriptorSet.FromString(compiled.read_bytes())


def _validate_descriptor() -> FileDescriptorProto:
    """Return `buf/validate/validate.proto` as the installed protovalidate knows it."""
    return FileDescriptorProto.FromString(ViolationPb.desc().file.proto.to_binary())


def _message_types(compiled: FileDescriptorSet, sources: list[str]) -> Iterator[CodeGeneratorResponse.File]:
    """Yield the Python files that the betterproto2 plugin makes of the sources."""
    wanted = {*sources, *USED_IMPORTS}
    request = CodeGeneratorRequest(
        file_to_generate=sources,
        parameter=PLUGIN_OPTIONS,
        proto_file=[file for file in compiled.file if file.name in wanted],
    )
    environment = {**os.environ, "PATH": os.pathsep.join((str(SCRIPTS), os.environ.get("PATH", "")))}
    with tempfile.TemporaryDirectory() as scratch:
        # The plugin formats its output with ruff, which takes its settings from where it runs.
        (Path(scratch) / "ruff.toml").write_text("line-length = 120\n", encoding="utf-8")
        done = subprocess.run(
            [PLUGIN], input=request.SerializeToString(), capture_output=True, cwd=scratch, env=environment, check=False
        )
    response = CodeGeneratorResponse.FromString(done.stdout)
    if done.returncode or response.error:
        sys.exit(f"the betterproto2 plugin failed: {response.error}\n{done.stderr.decode()}")
    yield from (file for file in response.file if file.name.endswith(".py"))


def _comments(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Yield full name and comment of everything in a file that has one, as one paragraph a line."""
    for location in file.source_code_info.location:
        text = location.leading_comments or location.trailing_comments
        name = _name_at(file, list(location.path)) if text.strip() else ""
        if name:
            paragraphs = text.strip().split("\n\n")
            yield name, "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _name_at(file: FileDescriptorProto, path: list[int]) -> str:
    """Return the full name of what a path of source information is about, or "" when that has none."""
    node: Any = file
    name = file.package
    for number, index in zip(path[::2], path[1::2], strict=False):
        field = node.DESCRIPTOR.fields_by_number.get(number)
        if field is None or not field.is_repeated or field.message_type is None:
            return ""
        node = getattr(node, field.name)[index]
        if not getattr(node, "name", ""):
            return ""
        name = f"{name}.{node.name}"
    return name if len(path) % 2 == 0 and path else ""


def _facades(modules: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield file name and text of the modules with short names."""
    for name, (summary, packages) in SHORT_NAMES.items():
        lines = [SHORT_NOTE, f'"""Typed messages of {summary}."""\n']
        for package in packages:
            names = _exported(modules[f"{package.replace('.', '/')}/__init__.py"])
            imports = "".join(f"    {exported} as {exported},\n" for exported in names)
            lines.append(f"from stigmer_protos.{CODE}.{package} import (\n{imports})")
        yield f"{name}.py", "\n".join(lines) + "\n"


def _exported(code: str) -> list[str]:
    """Return the names in the `__all__` of a generated module."""
    for node in ast.parse(code).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return sorted(ast.literal_eval(node.value))
    sys.exit("the betterproto2 plugin no longer writes __all__")


def _generated(root: Path) -> Iterator[Path]:
    """Yield the generated files below `root`, relative to it."""
    facades = (root / f"{name}.py" for name in SHORT_NAMES)
    for path in (root / DESCRIPTORS, root / COMMENTS, *facades, *(root / CODE).rglob("*.py")):
        if path.is_file():
            yield path.relative_to(root)


def stale(fresh: Path) -> list[Path]:
    """Return the generated files, by relative path, that are missing, left over or differ from those in `fresh`."""
    return sorted(
        name
        for name in {*_generated(fresh), *_generated(TARGET)}
        if not ((fresh / name).is_file() and (TARGET / name).is_file())
        or not filecmp.cmp(fresh / name, TARGET / name, shallow=False)
    )


def replace(fresh: Path, names: list[Path]) -> None:
    """Make the named files of the package what they are in `fresh`."""
    for name in names:
        if (fresh / name).is_file():
            (TARGET / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fresh / name, TARGET / name)
        else:
            (TARGET / name).unlink()


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Generate descriptors and message types from proto/.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a generated file is not current")
    checking = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        generate(fresh)
        names = stale(fresh)
        if not checking:
            replace(fresh, names)
    for name in names:
        sys.stdout.write(f"{'not current' if checking else 'written'}: {name.as_posix()}\n")
    return 1 if checking and names else 0


if __name__ == "__main__":
    sys.exit(main())
