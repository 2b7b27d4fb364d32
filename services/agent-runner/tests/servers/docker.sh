#!/bin/sh
# Stands for Docker's program: understands `run` as far as it is used, and runs the image's name as a Python program.
log="$(dirname "$0")/docker.log"
echo "$@" >> "$log"
test "$1" = run || exit 0
while test "$1" != --; do shift; done
shift
exec "$@"
