"""Files of agents' workspaces: which are meant, and how they travel."""
