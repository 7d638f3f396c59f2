"""Pure values and rules: what a job is and how it may change."""
