"""A policy: its folder, its weights, its shape, and where it computes."""

import logging

# peft imports bitsandbytes wherever it is installed, which on a CPU with AVX512-BF16 then warns
# that it could not fetch a kernel from the Hub. That kernel is never used: `settle_quantized`.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
