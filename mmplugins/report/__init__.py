"""``python -m mmplugins.report WORK_DIR``: a run of any mm config as one HTML file; no network, no toolbox."""
