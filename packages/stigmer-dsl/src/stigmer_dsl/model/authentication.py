"""How a workflow proves who it is: basic, bearer, digest, OAuth2 and OpenID Connect policies."""

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from stigmer_dsl.model.element import Choice, Element, Text


def _need(element: Element, *names: str) -> None:
    """Refuse a policy that neither names a secret alone, nor has its own properties."""
    if "use" in element.model_fields_set:
        if len(element.model_fields_set) > 1:
            raise PydanticCustomError("one-of", "has `use`, the name of a secret with the properties, and properties")
        return
    missing = [name for name in names if getattr(element, name) is None]
    if missing:
        raise PydanticCustomError(
            "incomplete", "needs {missing}, or `use` with the name of a secret", {"missing": " and ".join(missing)}
        )


class BasicAuthentication(Element):
    """A user name and a password."""

    use: Annotated[Text, Field(min_length=1)] | None = None
    """Name of the secret that holds the properties."""
    username: Text | None = None
    password: Text | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _need(self, "username", "password")
        return self


class DigestAuthentication(BasicAuthentication):
    """A user name and a password, proven by a digest."""


class BearerAuthentication(Element):
    """A bearer token."""

    use: Annotated[Text, Field(min_length=1)] | None = None
    """Name of the secret that holds the token."""
    token: Text | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _need(self, "token")
        return self


class OAuth2Client(Element):
    """The client that asks for a token."""

    id: Text | None = None
    secret: Text | None = None
    assertion: Text | None = None
    """A signed JWT; needed when `authentication` is `private_key_jwt`."""
    authentication: (
        Literal["client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "none"] | None
    ) = None
    """How the client proves itself; `client_secret_post` unless said."""


class OAuth2Endpoints(Element):
    """Paths below the authority."""

    token: Text = "/oauth2/token"  # noqa: S105 - a path
    revocation: Text = "/oauth2/revoke"
    introspection: Text = "/oauth2/introspect"


class OAuth2TokenRequest(Element):
    """How a token request is written."""

    encoding: Literal["application/x-www-form-urlencoded", "application/json"] = "application/x-www-form-urlencoded"


class OAuth2Token(Element):
    """A security token of a party."""

    token: Text
    type: Text


GrantType: TypeAlias = Literal[
    "authorization_code",
    "client_credentials",
    "password",
    "refresh_token",
    "urn:ietf:params:oauth:grant-type:token-exchange",
]


class OpenIdConnectAuthentication(Element):
    """Tokens from an OpenID Connect provider, found through its discovery document."""

    use: Annotated[Text, Field(min_length=1)] | None = None
    """Name of the secret that holds the properties."""
    authority: Text | None = None
    grant: GrantType | None = None
    client: OAuth2Client | None = None
    request: OAuth2TokenRequest = OAuth2TokenRequest()
    issuers: tuple[Text, ...] | None = None
    scopes: tuple[Text, ...] | None = None
    audiences: tuple[Text, ...] | None = None
    username: Text | None = None
    password: Text | None = None
    subject: OAuth2Token | None = None
    actor: OAuth2Token | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _need(self, "authority", "grant")
        return self


class OAuth2Authentication(OpenIdConnectAuthentication):
    """Tokens from an OAuth2 server whose endpoints are known."""

    endpoints: OAuth2Endpoints = OAuth2Endpoints()


class AuthenticationPolicy(Choice):
    """Exactly one way to authenticate, or the name of a policy in `use.authentications`."""

    one_of = (("use", "basic", "bearer", "digest", "oauth2", "oidc"),)

    use: Annotated[Text, Field(min_length=1)] | None = None
    """Name of a policy in `use.authentications`."""
    basic: BasicAuthentication | None = None
    bearer: BearerAuthentication | None = None
    digest: DigestAuthentication | None = None
    oauth2: OAuth2Authentication | None = None
    oidc: OpenIdConnectAuthentication | None = None


def _named(value: Any) -> Any:
    return {"use": value} if isinstance(value, str) else value


Authentication: TypeAlias = Annotated[
    AuthenticationPolicy,
    BeforeValidator(_named, json_schema_input_type=AuthenticationPolicy | Annotated[Text, Field(min_length=1)]),
]
"""A policy where one is used; a text is the name of one in `use.authentications`."""
