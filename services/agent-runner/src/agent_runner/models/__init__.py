"""Chat models by `provider:model`, and the scripted one that needs no key."""
