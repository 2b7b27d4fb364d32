# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
# ruff: noqa: I001 - one import statement for each package reads better
"""Typed messages of skills: packaged instructions, pushed as an archive."""

from stigmer_protos._gen.ai.stigmer.agentic.skill.v1 import (
    ArtifactPart as ArtifactPart,
    GetArtifactRequest as GetArtifactRequest,
    GetArtifactResponse as GetArtifactResponse,
    PushSkillHeader as PushSkillHeader,
    PushSkillPart as PushSkillPart,
    PushSkillRequest as PushSkillRequest,
    PushSkillResponse as PushSkillResponse,
    Skill as Skill,
    SkillId as SkillId,
    SkillList as SkillList,
    SkillSpec as SkillSpec,
    SkillState as SkillState,
    SkillStatus as SkillStatus,
)
