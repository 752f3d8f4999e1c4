# One target a role: train, generate, evaluate, and cpu, which runs the demo.
#
#   make image TARGET=cpu PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm@sha256:...
#
# Base images have no default: a digest is looked up when an image is built (docs/images.md), and a
# tag alone may be another image tomorrow.
ARG PYTHON_IMAGE
ARG VLLM_IMAGE=scratch

# --- what all roles have in common: the user, and one writable path --------------------------
FROM ${PYTHON_IMAGE} AS python
ENV PATH=/opt/tspin/bin:$PATH \
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

# --- dependencies: made again only when these two files change -------------------------------
FROM python AS dependencies
WORKDIR /build
RUN python3 -m venv /opt/tspin
COPY pyproject.toml constraints.txt README.md ./
# pip wants a package where pyproject.toml is; the real one comes last.
RUN mkdir tspin && echo '__version__ = "0"' > tspin/__init__.py

FROM dependencies AS cpu-dependencies
ARG TORCH_INDEX
RUN pip install --no-cache-dir --constraint constraints.txt \
        ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch \
    && pip install --no-cache-dir --constraint constraints.txt '.[train,pipelines]' \
    && pip uninstall --yes tspin

# --- the project itself: a wheel, built where the tools for it may stay ------------------------
FROM dependencies AS wheel
COPY tspin tspin
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM cpu-dependencies AS cpu-environment
COPY --from=wheel /wheels /wheels
# No pip in what is run: nothing is installed into a running container.
RUN pip install --no-cache-dir --no-deps /wheels/*.whl && pip uninstall --yes pip

FROM dependencies AS cpu-sbom
COPY --from=cpu-environment /opt/tspin /opt/described
RUN pip install --no-cache-dir cyclonedx-bom==7.5.0 \
    && cyclonedx-py environment /opt/described --output-file /sbom.cdx.json

# --- cpu ---------------------------------------------------------------------------------------
FROM python AS cpu
COPY --from=cpu-environment /opt/tspin /opt/tspin
COPY --from=cpu-sbom /sbom.cdx.json /opt/tspin/sbom.cdx.json
COPY configs /opt/tspin/configs
# What starts a training on several nodes, and what compiles and submits from within the cluster.
COPY components /opt/tspin/src/components
COPY pipelines /opt/tspin/src/pipelines
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
ENV TSPIN_GIT_COMMIT=${REVISION} \
    PYTHONPATH=/opt/tspin/src
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

# --- dependencies with CUDA: after the target cpu, which some builders would make them for ------
FROM dependencies AS gpu-dependencies
RUN pip install --no-cache-dir --constraint constraints.txt '.[train,pipelines]' \
    && pip uninstall --yes tspin

FROM gpu-dependencies AS gpu-environment
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --no-deps /wheels/*.whl && pip uninstall --yes pip

FROM dependencies AS gpu-sbom
COPY --from=gpu-environment /opt/tspin /opt/described
RUN pip install --no-cache-dir cyclonedx-bom==7.5.0 \
    && cyclonedx-py environment /opt/described --output-file /sbom.cdx.json

# --- train -------------------------------------------------------------------------------------
# The driver is the node's; CUDA's libraries come with torch.
FROM python AS train
COPY --from=gpu-environment /opt/tspin /opt/tspin
COPY --from=gpu-sbom /sbom.cdx.json /opt/tspin/sbom.cdx.json
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
ENV TSPIN_GIT_COMMIT=${REVISION} \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
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

# --- evaluate ----------------------------------------------------------------------------------
# An image of its own: evaluation harnesses and what trains need not agree on their dependencies.
FROM train AS evaluate
LABEL org.opencontainers.image.title="tspin/evaluate" \
      org.opencontainers.image.description="T-SPIN: evaluation on GPUs"

# --- generate ----------------------------------------------------------------------------------
# vLLM's own image, with its Python, torch and vLLM. The constraints refuse another torch than the
# one that this release was tested with, rather than replace it.
FROM ${VLLM_IMAGE} AS generate
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/cache \
    USER=tspin \
    TMPDIR=/cache \
    XDG_CACHE_HOME=/cache/.cache \
    HF_HOME=/cache/huggingface \
    HF_HUB_DISABLE_TELEMETRY=1 \
    VLLM_NO_USAGE_STATS=1
COPY constraints.txt /opt/tspin/constraints.txt
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    python3 -m pip install --no-cache-dir --constraint /opt/tspin/constraints.txt \
        "$(echo /wheels/tspin-*.whl)[train,pipelines]" \
    && echo 'tspin:x:10001:10001::/cache:/sbin/nologin' >> /etc/passwd \
    && echo 'tspin:x:10001:' >> /etc/group \
    && mkdir /cache \
    && chown 10001:10001 /cache
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
