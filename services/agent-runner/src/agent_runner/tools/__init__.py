"""Tools that agents have beside those of their workspace: those of MCP servers, and the web's pages."""
