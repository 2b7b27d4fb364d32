"""A generic, versioned resource store on SQLite: one table, JSON documents, history and a change feed."""
