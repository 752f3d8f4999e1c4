"""The graph of a run as Kubeflow draws it: start, iterations unrolled, finish."""
