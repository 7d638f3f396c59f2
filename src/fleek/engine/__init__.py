"""What can be done to a job: one module per verb."""
