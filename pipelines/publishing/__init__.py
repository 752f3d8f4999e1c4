"""The components as files of their own, for pipelines that are not ours."""
