"""What a person sees of a run: typed events in, the contract's status out."""
