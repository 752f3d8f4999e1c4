"""Steps of the library as Kubeflow components; each output is a folder with its manifest."""
