"""From triplets to the next policy: step, job, launch, worker, process, trainer."""

from tspin.models.quantization import without_kernel_warning

with without_kernel_warning():
    import transformers.trainer_utils  # noqa: F401  (it imports peft)
