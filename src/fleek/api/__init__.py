"""HTTP: the routes, and nothing that knows how a job works. The contract is in the reference."""
