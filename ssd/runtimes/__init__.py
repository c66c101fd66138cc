"""Programs that run a compiled network, one adapter each."""
