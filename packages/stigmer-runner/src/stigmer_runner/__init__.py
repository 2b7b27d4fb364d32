"""What Stigmer's runners share: the Temporal worker's life cycle, the server's client, secret filling, redaction and status reporting."""
