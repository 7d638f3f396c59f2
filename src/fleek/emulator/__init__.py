"""An offline Replicate: its HTTP API, a ledger of what it sold, and faults on demand."""
