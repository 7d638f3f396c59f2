"""Pure values and rules of jobs, attempts and media."""
