# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of files of agents' workspaces."""

from stigmer_protos._gen.ai.stigmer.files.v1 import (
    DeleteFileRequest as DeleteFileRequest,
    FileList as FileList,
    FilePart as FilePart,
    FileRef as FileRef,
    ListFilesRequest as ListFilesRequest,
    PutFileHeader as PutFileHeader,
    PutFilePart as PutFilePart,
    WorkspaceFile as WorkspaceFile,
)
