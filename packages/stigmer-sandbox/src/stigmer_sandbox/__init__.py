"""Reaching untrusted addresses and running untrusted commands behind one port."""
