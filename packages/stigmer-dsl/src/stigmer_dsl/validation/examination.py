"""A whole examination of a document: structure and meaning in one pass."""

import contextlib
from typing import Any, cast

from stigmer_dsl.model import Workflow
from stigmer_dsl.validation.findings import MAX_FINDINGS, Finding, Report
from stigmer_dsl.validation.meaning import MeaningCheck
from stigmer_dsl.validation.structure import examine_structure


def examine(
    value: Any, *, secrets: frozenset[str] = frozenset(), stored: bool = False
) -> tuple[Workflow | None, list[Finding]]:
    """The workflow of a document and everything that is wrong with it; the workflow counts only if nothing is.

    `stored` says that it was compiled from the stored form, which cannot say where a gRPC service is described.
    """
    structure = examine_structure(value)
    findings = structure.findings
    version = _version(value)
    if version is not None and not version.startswith("1.0.") and _is_semantic(version):
        findings.append(
            Finding(
                code="dsl.version",
                pointer="/document/dsl",
                message=f"version {version} of the language is not supported",
                hint="this library knows 1.0",
            )
        )
    if structure.workflow is not None:
        if not structure.workflow.do and not findings:
            findings.append(Finding(code="dsl.value", pointer="/do", message="a workflow needs at least one task"))
        check = MeaningCheck(
            structure.workflow, _reporter(findings), secrets=secrets, broken=structure.broken, stored=stored
        )
        with contextlib.suppress(_EnoughError):
            check.run()
    return structure.workflow, findings


class _EnoughError(Exception):
    """So many problems were found that no more are looked for."""


def _reporter(findings: list[Finding]) -> Report:
    def report(finding: Finding) -> None:
        findings.append(finding)
        if len(findings) >= MAX_FINDINGS:
            raise _EnoughError

    return report


def _version(value: Any) -> str | None:
    header: Any = cast("dict[str, Any]", value).get("document") if isinstance(value, dict) else None
    version: Any = cast("dict[str, Any]", header).get("dsl") if isinstance(header, dict) else None
    return version if isinstance(version, str) else None


def _is_semantic(version: str) -> bool:
    return version.count(".") >= 2 and version[:1].isdecimal()
