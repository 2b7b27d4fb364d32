"""Runtime expressions: jq in `${ … }`, deterministic, bounded, and blind to secrets."""

from stigmer_dsl.expressions.analysis import FORBIDDEN
from stigmer_dsl.expressions.evaluation import Mode, evaluate, evaluate_bare, evaluate_condition
from stigmer_dsl.expressions.program import ARGUMENTS, Expression, compile_expression, is_expression

__all__ = [
    "ARGUMENTS",
    "FORBIDDEN",
    "Expression",
    "Mode",
    "compile_expression",
    "evaluate",
    "evaluate_bare",
    "evaluate_condition",
    "is_expression",
]
