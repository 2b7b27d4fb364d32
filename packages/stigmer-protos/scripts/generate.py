"""Generate what the package ships from the sources in `proto/`.

Usage:
    python packages/stigmer-protos/scripts/generate.py            write the generated files
    python packages/stigmer-protos/scripts/generate.py --check    write nothing; exit 1 and list the files that differ

Two things are generated, and both are committed:

- `src/stigmer_protos/descriptors.binpb`: a FileDescriptorSet of all sources and everything they import;
- `src/stigmer_protos/_gen/`: the betterproto2 message types.

The rules of `buf/validate/validate.proto` are read from the installed protovalidate, which also enforces
them, so the two cannot differ. The output depends on the versions in uv.lock and on nothing else: no
network, no clock, no absolute path.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc_tools
from google.protobuf import descriptor_pb2
from protovalidate import ViolationPb

PACKAGE = Path(__file__).resolve().parent.parent
PROTO = PACKAGE / "proto"
TARGET = PACKAGE / "src" / "stigmer_protos"
GOOGLE = Path(next(iter(grpc_tools.__path__))) / "_proto"
DESCRIPTORS = "descriptors.binpb"
CODE = "_gen"
NOTE = "# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.\n"


def generate(into: Path) -> None:
    """Write the descriptor set and the message types below `into`."""
    sources = sorted(path.relative_to(PROTO).as_posix() for path in PROTO.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        rules = Path(scratch) / "validate.binpb"
        rules.write_bytes(_validate_descriptors())
        _protoc(rules, ["--include_imports", f"--descriptor_set_out={into / DESCRIPTORS}", *sources])
        code = into / CODE
        code.mkdir(exist_ok=True)
        _protoc(rules, [f"--python_betterproto2_out={code}", *sources])
    for path in sorted(code.rglob("*.py")):
        path.write_text(NOTE + path.read_text(encoding="utf-8"), encoding="utf-8")


def _validate_descriptors() -> bytes:
    """Return `buf/validate/validate.proto` as a serialized FileDescriptorSet."""
    file = descriptor_pb2.FileDescriptorProto.FromString(ViolationPb.desc().file.proto.to_binary())
    file.source_code_info.SetInParent()  # the betterproto2 plugin reads comments of every file it is handed
    return descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString(deterministic=True)


def _protoc(rules: Path, arguments: list[str]) -> None:
    """Run protoc on the sources; its messages go to stderr and its failure ends the program."""
    scripts = sysconfig.get_path("scripts")  # where the betterproto2 plugin is, also when the venv is not active
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"-I{GOOGLE}", f"--descriptor_set_in={rules}"]
    environment = {**os.environ, "PATH": os.pathsep.join((scripts, os.environ.get("PATH", "")))}
    subprocess.run([*command, *arguments], env=environment, check=True)


def _generated(root: Path) -> Iterator[Path]:
    """Yield the generated files below `root`, relative to it."""
    for path in (root / DESCRIPTORS, *(root / CODE).rglob("*.py")):
        if path.is_file():
            yield path.relative_to(root)


def check() -> list[str]:
    """Return the generated files that are missing, left over or different."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        generate(fresh)
        names = sorted({*_generated(fresh), *_generated(TARGET)})
        return [
            name.as_posix()
            for name in names
            if not ((fresh / name).is_file() and (TARGET / name).is_file())
            or not filecmp.cmp(fresh / name, TARGET / name, shallow=False)
        ]


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Generate descriptors and message types from proto/.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a generated file is not current")
    if parser.parse_args().check:
        stale = check()
        for name in stale:
            print(f"not current: {name}", file=sys.stderr)  # noqa: T201 - this is the program's output
        return 1 if stale else 0
    for name in list(_generated(TARGET)):
        (TARGET / name).unlink()
    generate(TARGET)
    return 0


if __name__ == "__main__":
    sys.exit(main())
