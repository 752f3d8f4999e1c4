"""Installs the repository's folders under names that no other package has.

`components/` and `pipelines/` are where a reader looks for them; in a site-packages that is
shared with others, names as general as these belong to nobody.
"""

from setuptools import find_packages, setup

FOLDERS = {
    "tspin": "tspin",
    "tspin_cluster": "cluster",
    "tspin_components": "components",
    "tspin_pipelines": "pipelines",
    "tspin_trainjob": "trainjob",
}

setup(
    package_dir=FOLDERS,
    packages=[
        ".".join(filter(None, (name, inner)))
        for name, folder in FOLDERS.items()
        for inner in ("", *find_packages(folder))
    ],
)
