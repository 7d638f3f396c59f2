"""An offline emulator of providers: one dialect per wire protocol, a common ledger and faults."""
