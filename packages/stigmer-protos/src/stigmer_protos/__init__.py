"""The Stigmer API contract: typed messages, service table and descriptor set."""
