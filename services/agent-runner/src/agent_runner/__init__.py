"""A Temporal worker that runs durable LLM agents."""
