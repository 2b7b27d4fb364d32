# DO NOT EDIT: written by scripts/generate.py from the sources in proto/.
import betterproto2

default_message_pool = betterproto2.MessagePool()
