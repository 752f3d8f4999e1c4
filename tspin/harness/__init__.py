"""Tasks of lm-evaluation-harness on a policy. The one owner of lm_eval."""
