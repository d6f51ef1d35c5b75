"""The documentation, built with no network by `python -m sphinx -W docs docs/_build/html`.

`pip install '.[docs]'` brings what it needs; frameworks that are not installed are mocked where the reference is made
of their adapters' docstrings.  Keras, whose adapter asks for its backend, is one of what is needed.
"""

import importlib.util
import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent / "extensions")]

os.environ["KERAS_BACKEND"] = "numpy"  # the adapter's docstrings are the same under each

import nagd_numba  # noqa: E402

project = "nagd_numba"
author = copyright = "The nagd_numba developers"
version = release = nagd_numba.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "mathml",
    "sphinx_copybutton",
    "compiled_functions",
    "formulas",
    "members",
    "names",
]
exclude_patterns = ["_build", "extensions"]
templates_path = ["_templates"]
nitpicky = True
show_warning_types = True

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # the docstrings say more
autodoc_mock_imports = [
    name for name in ("jax", "jaxlib", "optax", "sklearn", "torch") if importlib.util.find_spec(name) is None
]
autodoc_member_order = "bysource"
autosummary_generate = True
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_context = {"default_mode": "auto"}
html_theme = "pydata_sphinx_theme"
html_title = "nagd_numba"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/icon.svg"
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "nagd_numba"},
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 5,
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
