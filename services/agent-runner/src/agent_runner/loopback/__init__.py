"""For tests and benchmarks: servers on loopback that speak the APIs of models' providers."""
