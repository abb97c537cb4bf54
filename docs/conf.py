"""Settings of the documentation site: ``make docs``. Its pages are the repository's Markdown files, where they lie."""

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

project = 'mmplugins'
author = 'The mmplugins authors'
release = version = runpy.run_path(str(ROOT / 'mmplugins' / 'version.py'))['__version__']
extensions = ['myst_parser', 'sphinx_external_toc', 'sphinx_copybutton']
external_toc_path = 'docs/_toc.yml'
# Only what the table of contents names: the repository has other Markdown files.
include_patterns = [
    'README.md',
    'CHANGELOG.md',
    'CONTRIBUTING.md',
    'docs/*.md',
    'configs/*/README.md',
]
exclude_patterns = ['docs/_build']
myst_heading_anchors = 3
html_theme = 'furo'
html_title = 'mmplugins'
html_static_path = ['_static']
html_css_files = ['site.css']
html_extra_path = ['_static/index.html']
