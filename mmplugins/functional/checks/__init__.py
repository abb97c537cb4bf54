"""What was expected, what came, how to mend it."""
