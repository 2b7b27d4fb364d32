"""One turn of an agent: from the person's message to the agent's answer, durable at every step."""
