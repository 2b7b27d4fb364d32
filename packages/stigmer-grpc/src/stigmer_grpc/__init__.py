"""gRPC servers and clients from a descriptor set: life cycle, interceptors, typed errors, health, reflection and an in-process channel."""
