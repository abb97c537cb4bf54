"""Pure-Python configs."""
