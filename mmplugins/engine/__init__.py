"""What runs a config: the launch of the tools, and hooks. Imports nothing by itself."""
