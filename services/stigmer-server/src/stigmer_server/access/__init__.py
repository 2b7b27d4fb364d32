"""Who calls, and what they may do: tokens, keys, roles, and the interceptors that ask.

The verbs know only the `Caller` of their call; how it was found out is known here alone.
"""
