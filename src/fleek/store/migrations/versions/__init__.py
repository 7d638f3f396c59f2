"""One module per revision. Expand first, contract one release later."""
