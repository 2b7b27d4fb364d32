"""Every error that this package raises.

RunnerError
└── SettingsError   one or more settings are wrong; says all of them
"""


class RunnerError(Exception):
    """Anything a runner cannot do."""


class SettingsError(RunnerError):
    """One or more settings are wrong or missing."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(("the settings are not usable:", *(f"  {problem}" for problem in problems))))
