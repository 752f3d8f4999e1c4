"""The steps of a run as lightweight Kubeflow components, one a file; each calls the library once.

No `from __future__ import annotations` in the components: kfp reads the annotations as objects.
"""
