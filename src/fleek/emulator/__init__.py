"""An offline emulator of Replicate: its HTTP API, a ledger of predictions, and injected faults."""
