"""From RPCs to verbs: which method calls which verb with what, and which error has which status."""
