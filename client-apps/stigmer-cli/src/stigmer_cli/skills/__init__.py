"""Skills: how a folder becomes an archive and an archive a folder, and how archives travel."""
