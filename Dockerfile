# One target a role: train, generate, evaluate, and cpu, which runs the demo.
#
#   make image TARGET=cpu PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm@sha256:...
#
# Base images have no default: a digest is looked up when an image is built (docs/guides/images.md), and a
# tag alone may be another image tomorrow. Packages are those of locks/, by version and hash.
#
# Dependencies are layers that the images share, made anew only when a lock changes; the project is a
# small one on top. No pip in what is run: nothing is installed there.
ARG PYTHON_IMAGE
ARG VLLM_IMAGE=scratch

# --- what all roles have in common: the user, and one writable path --------------------------
FROM ${PYTHON_IMAGE} AS python
ENV PATH=/opt/tspin/bin:/opt/tspin/src/bin:$PATH \
    PYTHONPATH=/opt/tspin/src \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/cache \
    USER=tspin \
    TMPDIR=/cache \
    XDG_CACHE_HOME=/cache/.cache \
    HF_HOME=/cache/huggingface \
    HF_HUB_DISABLE_TELEMETRY=1
# Written by hand: a minimal base has no useradd. Without an entry, getpass fails.
RUN echo 'tspin:x:10001:10001::/cache:/sbin/nologin' >> /etc/passwd \
    && echo 'tspin:x:10001:' >> /etc/group \
    && mkdir /cache \
    && chown 10001:10001 /cache

# --- the project itself, built where the tools for it may stay: a wheel, and unpacked ------------
FROM python AS package
WORKDIR /build
COPY pyproject.toml setup.py README.md locks/build.txt ./
COPY tspin tspin
COPY cluster cluster
COPY components components
COPY pipelines pipelines
COPY trainjob trainjob
RUN python3 -m venv /opt/tspin \
    && pip install --no-cache-dir --require-hashes --no-deps --requirement build.txt \
    && pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /wheels . \
    && pip install --no-cache-dir --no-deps --target /package /wheels/*.whl

# --- what writes down which packages are in an image ---------------------------------------------
FROM python AS describer
COPY locks/install locks/pip.txt locks/build.txt locks/describe.txt /locks/
RUN /locks/install /describer describe

# --- dependencies: each stage adds to the one before ---------------------------------------------
# CUDA's libraries come with torch, the driver is the node's.
FROM python AS torch
ARG TORCH_INDEX
COPY locks/install locks/pip.txt locks/build.txt locks/torch.txt /opt/tspin/locks/
RUN /opt/tspin/locks/install /opt/tspin torch

FROM torch AS train-dependencies
COPY locks/train.txt /opt/tspin/locks/
RUN /opt/tspin/locks/install /opt/tspin train

FROM train-dependencies AS cpu-dependencies
COPY locks/cpu.txt /opt/tspin/locks/
RUN /opt/tspin/locks/install /opt/tspin cpu

# The mathematics of the papers' tasks needs another antlr than DVC does, hence an image of its own.
FROM cpu-dependencies AS evaluate-dependencies
COPY locks/evaluate.txt /opt/tspin/locks/
RUN /opt/tspin/locks/install /opt/tspin evaluate

# --- cpu ------------------------------------------------------------------------------------------
FROM cpu-dependencies AS cpu-described
COPY --from=package /package /opt/tspin/src
COPY --from=describer /describer /describer
RUN /describer/bin/cyclonedx-py environment /opt/tspin --output-file /sbom.cdx.json

FROM cpu-dependencies AS cpu
COPY --from=package /package /opt/tspin/src
COPY --from=cpu-described /sbom.cdx.json /opt/tspin/sbom.cdx.json
COPY configs /opt/tspin/configs
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
ENV TSPIN_GIT_COMMIT=${REVISION}
LABEL org.opencontainers.image.title="tspin/cpu" \
      org.opencontainers.image.description="T-SPIN on a CPU: the demo, and the light steps of pipelines" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
WORKDIR /cache
VOLUME /cache
HEALTHCHECK --interval=5m --timeout=60s CMD ["tspin", "doctor"]
ENTRYPOINT ["tspin"]
CMD ["--help"]

# --- train ----------------------------------------------------------------------------------------
FROM train-dependencies AS train-described
COPY --from=package /package /opt/tspin/src
COPY --from=describer /describer /describer
RUN /describer/bin/cyclonedx-py environment /opt/tspin --output-file /sbom.cdx.json

FROM train-dependencies AS train
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# Triton compiles a launcher in C for each kernel of torch.compile, which flex attention is made by.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt/* /var/log/dpkg.log
COPY --from=package /package /opt/tspin/src
COPY --from=train-described /sbom.cdx.json /opt/tspin/sbom.cdx.json
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
ENV TSPIN_GIT_COMMIT=${REVISION}
LABEL org.opencontainers.image.title="tspin/train" \
      org.opencontainers.image.description="T-SPIN: training on GPUs" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
WORKDIR /cache
VOLUME /cache
HEALTHCHECK --interval=5m --timeout=60s CMD ["tspin", "doctor"]
ENTRYPOINT ["tspin"]
CMD ["--help"]

# --- evaluate -------------------------------------------------------------------------------------
FROM evaluate-dependencies AS evaluate-described
COPY --from=package /package /opt/tspin/src
COPY --from=describer /describer /describer
RUN /describer/bin/cyclonedx-py environment /opt/tspin --output-file /sbom.cdx.json

FROM evaluate-dependencies AS evaluate
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# Triton compiles a launcher in C for each kernel of torch.compile, which flex attention is made by.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt/* /var/log/dpkg.log
COPY --from=package /package /opt/tspin/src
COPY --from=evaluate-described /sbom.cdx.json /opt/tspin/sbom.cdx.json
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
ENV TSPIN_GIT_COMMIT=${REVISION}
LABEL org.opencontainers.image.title="tspin/evaluate" \
      org.opencontainers.image.description="T-SPIN: evaluation on GPUs" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
WORKDIR /cache
VOLUME /cache
HEALTHCHECK --interval=5m --timeout=60s CMD ["tspin", "doctor"]
ENTRYPOINT ["tspin"]
CMD ["--help"]

# --- generate ------------------------------------------------------------------------------------
# vLLM's own image, with its Python, torch and vLLM, which stay as they are: an environment on top
# sees them, and holds what the lock adds or needs in another version.
FROM ${VLLM_IMAGE} AS vllm
ENV PATH=/opt/tspin/bin:/opt/tspin/src/bin:$PATH \
    PYTHONPATH=/opt/tspin/src \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/cache \
    USER=tspin \
    TMPDIR=/cache \
    XDG_CACHE_HOME=/cache/.cache \
    HF_HOME=/cache/huggingface \
    HF_HUB_DISABLE_TELEMETRY=1 \
    VLLM_NO_USAGE_STATS=1
RUN echo 'tspin:x:10001:10001::/cache:/sbin/nologin' >> /etc/passwd \
    && echo 'tspin:x:10001:' >> /etc/group \
    && mkdir -p /cache \
    && chown 10001:10001 /cache

FROM vllm AS generate-dependencies
COPY locks/install locks/pip.txt locks/build.txt locks/vllm.txt locks/generate.txt /opt/tspin/locks/
RUN /opt/tspin/locks/install /opt/tspin generate vllm

FROM generate-dependencies AS generate-described
COPY --from=package /package /opt/tspin/src
COPY locks/describe.txt /opt/tspin/locks/
RUN /opt/tspin/locks/install /describer describe \
    && /describer/bin/cyclonedx-py environment /opt/tspin --output-file /sbom.cdx.json

FROM generate-dependencies AS generate
COPY --from=package /package /opt/tspin/src
COPY --from=generate-described /sbom.cdx.json /opt/tspin/sbom.cdx.json
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
ENV TSPIN_GIT_COMMIT=${REVISION}
LABEL org.opencontainers.image.title="tspin/generate" \
      org.opencontainers.image.description="T-SPIN: generation on GPUs, on vLLM's image" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
WORKDIR /cache
VOLUME /cache
HEALTHCHECK --interval=5m --timeout=60s CMD ["tspin", "doctor"]
ENTRYPOINT ["tspin"]
CMD ["--help"]
