"""Operations of OpenAPI documents: Swagger 2.0, OpenAPI 3.0 and 3.1."""

from workflow_runner.activities.openapi.calls import OpenApiCalls

__all__ = ["OpenApiCalls"]
