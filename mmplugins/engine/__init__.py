"""What runs a config: the launch of the tools, and hooks."""

from mmplugins.hosts import require_host

require_host('mmengine', 'mmplugins.engine')
