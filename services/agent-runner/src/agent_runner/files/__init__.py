"""Files between a session's workspace, where its agent works, and the server, where people put and get them."""
