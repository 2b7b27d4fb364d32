"""Calls of models without an agent, which workflows make: what is asked, and the activity."""
