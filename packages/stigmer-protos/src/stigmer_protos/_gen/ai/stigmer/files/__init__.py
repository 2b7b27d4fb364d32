# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
