"""The commands, one module each. Their modules import lightly; what a command needs is imported when it runs."""
