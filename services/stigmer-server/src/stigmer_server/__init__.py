"""The Stigmer API server: resources, commands, queries, streams and the engine client."""
