"""The API over HTTP: the same RPCs, behind the same interceptors, for those who have no gRPC client.

Nothing here knows what a verb does. Paths, requests, answers and their description come from the descriptors; calls go
through an in-process channel. Imported only when the server offers HTTP.
"""
