"""What an expression uses, and whether it may run beside the interpreter.

Reads the words of a program: which variables and secrets it names, whether it calls what is refused, and how much
work it can make at most. Never runs anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stigmer_dsl.expressions.lexer import LexError, Token, split
from stigmer_dsl.expressions.numbers import LARGEST
from stigmer_dsl.problems import did_you_mean

MAX_LENGTH = 20_000
"""The longest expression, in characters."""

# jq's time to compile grows with the square of the length and more, so what is longer is compiled by the guard.
_SHORT = 2_000

FORBIDDEN: Mapping[str, str] = {
    **dict.fromkeys(("now", "localtime", "strflocaltime"), "it reads the clock or the time zone"),
    **dict.fromkeys(("env", "$ENV", "get_search_list", "get_jq_origin", "get_prog_origin"), "it reads the environment"),
    **dict.fromkeys(("input", "inputs", "input_filename", "input_line_number"), "it reads the runtime's own input"),
    **dict.fromkeys(("import", "include", "module", "modulemeta"), "it reads files"),
    **dict.fromkeys(("debug", "stderr", "halt", "halt_error"), "it acts on the runtime itself"),
    "$__prog_args": "it reads the runtime's own input",
}
"""What an expression may not use, and why: a run must give the same result when it is replayed."""

# Functions whose work and result are at most in proportion to their input.
_LINEAR = frozenset(
    """abs acos acosh add arrays ascii ascii_downcase ascii_upcase asin asinh atan atan2 atanh booleans bsearch
    builtins cbrt ceil copysign cos cosh drem empty endswith erf erfc error exp exp10 exp2 explode expm1 fabs fdim
    finites first flatten floor fma fmax fmin fmod frexp from_entries fromdate fromdateiso8601 fromjson gamma getpath
    gmtime has have_decnum have_literal_numbers hypot implode in infinite isfinite isinfinite isnan isnormal iterables
    j0 j1 jn join keys keys_unsorted last ldexp length lgamma lgamma_r log log10 log1p log2 logb ltrim ltrimstr max min
    mktime modf nan nearbyint nextafter nexttoward normals not nth nulls numbers objects pow remainder reverse rint
    round rtrim rtrimstr scalars scalb scalbln select significand sin sinh sort sqrt startswith strftime strings
    strptime tan tanh tgamma to_entries toboolean todate todateiso8601 tojson tonumber tostring trim trimstr trunc type
    unique utf8bytelength values y0 y1 yn""".split()  # noqa: SIM905 - a list of a hundred words reads best as text
)
# Functions that do their argument for each item, or compare all with all.
_ITERATING = frozenset(
    """IN INDEX all any contains group_by index indices inside map map_values max_by min_by paths rindex sort_by
    transpose unique_by with_entries""".split()  # noqa: SIM905 - as above
)
# Functions that write their input in more characters, and how many at most (a format may do what tojson does).
_LENGTHENING: Mapping[str, int] = {"tojson": 6, "tostring": 6, "explode": 8, "to_entries": 4}
# Words that can make any amount of work out of any input.
_UNBOUNDED_WORDS = frozenset(
    {"def", "reduce", "foreach", "label", "*", "*=", "=", "|=", "+=", "-=", "/=", "%=", "//=", "?//", "?//="}
)
# What would encode, measure or cut a marker instead of the secret that it stands for.
_OPAQUE = frozenset(
    """ascii ascii_downcase ascii_upcase capture contains endswith explode fromjson gsub implode index indices inside
    length ltrim ltrimstr match rindex rtrim rtrimstr scan split splits startswith sub test toboolean tojson tonumber
    trim trimstr utf8bytelength * / - %""".split()  # noqa: SIM905 - as above
)
# What gives the same on every input, where its arguments do.
_BLIND = frozenset({"true", "false", "null", "range", "empty"})
_BLIND_WORDS = ("|", ",", ":", ";", "+", "-", "==", "!=", "<", "<=", ">", ">=", "and", "or")
_ARITHMETIC = frozenset({"+", "-", "*", "/", "%", "+=", "-=", "*=", "/=", "%="})
_COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})


class RefusedError(ValueError):
    """An expression uses what it may not; `code` is the problem's stable code."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What the words of an expression say about it."""

    variables: Mapping[str, frozenset[str] | None]
    """The variables it takes from outside; for each the only keys it reads, or None for the whole value."""
    secrets: Mapping[str, frozenset[str]]
    """The secrets it names; for each the properties it reads, or none where it takes the whole secret."""
    bounded: bool
    """Whether its work is bounded by a power of its input's size, and compiling it is short work."""
    degree: int
    """That power."""
    width: int
    """A factor: how much larger than its input what it makes can be."""
    path: tuple[str | int, ...] | None
    """The keys and indexes it follows, if it does nothing else."""
    root: str
    """The variable that `path` starts from; empty for the input."""
    reads_input: bool
    """Whether it may look at its input; one that does not need not be given it, however large that is."""

    def fits(self, size: int) -> bool:
        """Whether evaluation on `size` bytes of data is short work without being watched."""
        return self.bounded and (self.width * max(size, 16)) ** self.degree <= 30_000_000


def analyse(text: str) -> Analysis:
    """Read an expression.

    Raises:
        RefusedError: It is too long, cannot be split into words, or uses what is refused.
    """
    if len(text) > MAX_LENGTH:
        raise RefusedError("expression.limit", f"the expression has more than {MAX_LENGTH} characters")
    try:
        tokens = split(text)
    except LexError as error:
        raise RefusedError("expression.syntax", f"{error} at column {error.offset + 1}") from None
    if not tokens:
        raise RefusedError("expression.syntax", "the expression is empty")
    calls = _calls(tokens)
    _refuse_forbidden(tokens, calls)
    _refuse_rounding(tokens)
    bound = _bound_names(tokens)
    secrets = _secrets(tokens, calls, bound)
    root, path = _path(tokens)
    degree, width = _growth(tokens, calls)
    return Analysis(
        variables=_variables(tokens, bound),
        secrets=secrets,
        bounded=len(text) <= _SHORT and _is_bounded(tokens, calls),
        degree=degree,
        width=width,
        path=path,
        root=root,
        reads_input=_reads_input(tokens),
    )


def _is(token: Token | None, *words: str) -> bool:
    return token is not None and token.kind in ("operator", "keyword") and token.text in words


def _at(tokens: Sequence[Token], index: int) -> Token | None:
    return tokens[index] if 0 <= index < len(tokens) else None


def _reads_input(tokens: Sequence[Token]) -> bool:
    """Whether an expression may look at its input: unless all of it, or all before its first pipe, plainly does not."""
    depth = 0
    for index, token in enumerate(tokens):
        before = _at(tokens, index - 1)
        if _is(token, "|") and not depth:
            return False
        if _is(token, "(", "[", "{"):
            depth += 1
        elif _is(token, ")", "]", "}"):
            depth -= 1
        elif token.kind == "field":
            if before is None or not (before.kind in ("variable", "field") or _is(before, "]", ")")):
                return True
        elif token.kind == "name":
            if token.text not in _BLIND and not _is(_at(tokens, index + 1), ":"):
                return True
        elif token.kind not in ("number", "text", "variable") and not _is(token, *_BLIND_WORDS):
            return True
    return False


def _calls(tokens: Sequence[Token]) -> list[tuple[int, str]]:
    """Each name that calls a function, with its place: not the name of a key, nor one that `def` introduces."""
    found: list[tuple[int, str]] = []
    brackets: list[str] = []
    for index, token in enumerate(tokens):
        if _is(token, "(", "[", "{"):
            brackets.append(token.text)
        elif _is(token, ")", "]", "}"):
            brackets.pop()
        elif token.kind == "name":
            before = _at(tokens, index - 1)
            is_key = bool(brackets) and brackets[-1] == "{" and _is(before, "{", ",")
            if not is_key and not _is(before, "def"):
                found.append((index, token.text))
    return found


def _refuse_forbidden(tokens: Sequence[Token], calls: Sequence[tuple[int, str]]) -> None:
    words = [name.rsplit("::", 1)[-1] for _, name in calls]
    words += [token.text for token in tokens if token.kind in ("keyword", "variable")]
    for word in words:
        if word in FORBIDDEN:
            message = f"{word} is not allowed in an expression: {FORBIDDEN[word]}"
            raise RefusedError("expression.forbidden", message, "take the value from the input or a variable")


def _refuse_rounding(tokens: Sequence[Token]) -> None:
    """A number that a double does not count exactly may be passed on, but not calculated with."""
    numbers = [token.text for token in tokens if token.kind == "number" and token.text.isdecimal()]
    large = [digits for digits in numbers if len(digits) > 15 and int(digits[:40]) > LARGEST]
    if large and any(_is(token, *_ARITHMETIC) for token in tokens):
        message = f"jq cannot calculate exactly with {large[0]}, a number beyond 2^53"
        raise RefusedError("expression.number", message, "put it in double quotes if it is no quantity")


def _bound_names(tokens: Sequence[Token]) -> frozenset[str]:
    """Names that the expression binds itself: by `as`, as parameters of functions, as labels."""
    found: set[str] = set()
    for index, token in enumerate(tokens):
        if _is(token, "as", "label", "?//"):
            found |= _pattern(tokens, index + 1)
        elif _is(token, "def") and _is(_at(tokens, index + 2), "("):
            found |= _pattern(tokens, index + 2)
    return frozenset(found)


def _pattern(tokens: Sequence[Token], start: int) -> set[str]:
    """The variables of the pattern that begins at a place: one variable, or all within a bracket."""
    depth = 0
    found: set[str] = set()
    for token in tokens[start:]:
        if token.kind == "variable":
            found.add(token.text[1:])
        elif _is(token, "(", "[", "{"):
            depth += 1
        elif _is(token, ")", "]", "}"):
            depth -= 1
        if depth <= 0:
            break
    return found


def _variables(tokens: Sequence[Token], bound: frozenset[str]) -> dict[str, frozenset[str] | None]:
    found: dict[str, frozenset[str] | None] = {}
    for index, token in enumerate(tokens):
        name = token.text[1:]
        if token.kind != "variable" or name in ("__loc__", "secrets"):
            continue
        key, _ = _key(tokens, index + 1)
        keys = found.get(name, frozenset())
        found[name] = None if key is None or keys is None or name in bound else keys | {key}
    return {name: keys for name, keys in found.items() if name not in bound}


def _key(tokens: Sequence[Token], index: int) -> tuple[str | None, int]:
    """The literal key that is read at a place (`.key`, `."key"`, `["key"]`), and the place after it."""
    token, following, third = (_at(tokens, index + step) for step in range(3))
    if token is None:
        return None, index
    if token.kind == "field":
        return token.text[1:], index + 1
    if _is(token, ".") and following is not None and following.whole and "\\" not in following.text:
        return following.text, index + 2
    if _is(token, "[") and following is not None and following.whole and "\\" not in following.text and _is(third, "]"):
        return following.text, index + 3
    return None, index


def _secrets(
    tokens: Sequence[Token], calls: Sequence[tuple[int, str]], bound: frozenset[str]
) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for index, token in enumerate(tokens):
        if token.kind != "variable" or token.text != "$secrets":
            continue
        if "secrets" in bound:
            raise RefusedError("expression.secret-use", "$secrets cannot be given another meaning")
        name, after = _key(tokens, index + 1)
        if name is None:
            message = "$secrets must be followed by the name of a secret"
            raise RefusedError("expression.secret-use", message, 'such as $secrets.TOKEN or $secrets["my-token"]')
        part, after = _key(tokens, after)
        parts = frozenset[str]() if part is None else frozenset[str]((part,))
        if name in found and bool(found[name]) != bool(parts):
            raise RefusedError(
                "expression.secret-use", f"secret {name!r} is used both as a whole and by its properties"
            )
        found[name] = parts | found.get(name, parts)
        _refuse_comparison(tokens, index, after)
    if found:
        _refuse_encoding(tokens, calls)
    return found


def _refuse_comparison(tokens: Sequence[Token], before: int, after: int) -> None:
    right, left = _at(tokens, after), _at(tokens, before - 1)
    if _is(right, *_COMPARISONS) or _is(left, *_COMPARISONS) or _is(right, "["):
        raise RefusedError(
            "expression.secret-use",
            "a secret cannot be compared or cut",
            "expressions never see its value: it is filled in where it is used",
        )


def _refuse_encoding(tokens: Sequence[Token], calls: Sequence[tuple[int, str]]) -> None:
    words = [name for _, name in calls]
    words += [token.text for token in tokens if token.kind == "operator"]
    words += [token.text for token in tokens if token.kind == "format" and token.text != "@text"]
    for word in words:
        if word in _OPAQUE or word.startswith("@"):
            raise RefusedError(
                "expression.secret-use",
                f"{word} cannot stand in an expression with a secret",
                "expressions never see its value: put the secret into a text with \\(…), and use an authentication"
                " policy where it must be encoded",
            )


def _arguments(tokens: Sequence[Token], index: int) -> int:
    """How many arguments the call at a place has."""
    if not _is(_at(tokens, index + 1), "("):
        return 0
    depth, count = 0, 1
    for token in tokens[index + 1 :]:
        if _is(token, "(", "[", "{"):
            depth += 1
        elif _is(token, ")", "]", "}"):
            depth -= 1
        elif depth == 1 and _is(token, ";"):
            count += 1
        if depth == 0:
            break
    return count


def _is_bounded(tokens: Sequence[Token], calls: Sequence[tuple[int, str]]) -> bool:
    if any(_is(token, *_UNBOUNDED_WORDS) for token in tokens):
        return False
    return all(
        name in _LINEAR or name in _ITERATING or (name == "split" and _arguments(tokens, index) == 1)
        for index, name in calls
    )


def _growth(tokens: Sequence[Token], calls: Sequence[tuple[int, str]]) -> tuple[int, int]:
    """The degree and the factor of an upper bound on work.

    Iterations, nested or not, multiply their lengths: each adds a degree. Copies multiply from one stage of a pipe to
    the next and from one bracket to another; within a stage and a bracket they add up.
    """
    degree = 1 + sum(1 for _, name in calls if name in _ITERATING)
    width = 1
    for _, name in calls:
        width *= _LENGTHENING.get(name, 1)
    stages = [1]
    for index, token in enumerate(tokens):
        if token.kind == "format":
            width *= _LENGTHENING["tojson"]
        elif _is(token, "..", "-") or (_is(token, "[") and _is(_at(tokens, index + 1), "]")):
            degree += 1
        if _is(token, "(", "[", "{"):
            stages.append(1)
        elif _is(token, ")", "]", "}"):
            width *= stages.pop()
        elif _is(token, "|", "as", "then", "elif", "else"):
            width *= stages[-1]
            stages[-1] = 1
        elif _is(token, ",", ";", "+") or (token.kind == "text" and not token.opens):
            stages[-1] += 1
    return degree, width * stages[0]


def _path(tokens: Sequence[Token]) -> tuple[str, tuple[str | int, ...] | None]:
    """The keys and indexes of an expression that is nothing but a path, and the variable it starts from."""
    first = tokens[0]
    if _is(first, "["):
        # An array that is made: nothing is before the bracket that it could be a key of.
        return "", None
    if first.kind == "variable" and first.text not in ("$secrets", "$__loc__"):
        root, index = first.text[1:], 1
    elif _is(first, ".") and (len(tokens) == 1 or _is(tokens[1], "[")):
        root, index = "", 1
    else:
        root, index = "", 0
    parts: list[str | int] = []
    while index < len(tokens):
        key, after = _key(tokens, index)
        if key is None:
            number = _at(tokens, index + 1)
            plain = number is not None and number.kind == "number" and number.text.isdecimal()
            if not (_is(_at(tokens, index), "[") and plain and _is(_at(tokens, index + 2), "]")):
                return "", None
            parts.append(int(number.text) if number is not None else 0)
            after = index + 3
        else:
            parts.append(key)
        index = after
    if not root and not parts and not _is(first, "."):
        return "", None
    return root, tuple(parts)


def unknown_variables(analysis: Analysis, known: frozenset[str]) -> list[tuple[str, str]]:
    """The variables that nothing gives a value, each with advice."""
    return [
        (name, did_you_mean("$" + name, ["$" + other for other in known | {"secrets"}]))
        for name in analysis.variables
        if name not in known
    ]
