"""Where an agent works: a folder for each session, and a sandbox in which its commands and file tools run."""
