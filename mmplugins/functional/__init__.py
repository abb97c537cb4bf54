"""The mathematics of the components: pure torch, no toolbox, no registry."""
