# One target a role: train, generate, evaluate, and cpu, which runs the demo.
#
#   make image TARGET=cpu PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm@sha256:...
#
# Base images have no default: a digest is looked up when an image is built (docs/guides/images.md), and a
# tag alone may be another image tomorrow.
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

# --- what dependencies are read from; pip wants a package there, and the real one comes last -----
FROM python AS sources
WORKDIR /build
COPY pyproject.toml setup.py constraints.txt README.md ./
RUN mkdir tspin cluster components pipelines trainjob && echo '__version__ = "0"' > tspin/__init__.py

# --- the project itself, built where the tools for it may stay: a wheel, and unpacked ------------
FROM sources AS package
COPY tspin tspin
COPY cluster cluster
COPY components components
COPY pipelines pipelines
COPY trainjob trainjob
RUN python3 -m venv /opt/tspin \
    && pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && pip install --no-cache-dir --no-deps --target /package /wheels/*.whl

# --- what writes down which packages are in an image ---------------------------------------------
FROM python AS describer
RUN python3 -m venv /describer \
    && /describer/bin/pip install --no-cache-dir cyclonedx-bom==7.5.0

# Dependencies are one layer of each image, made anew only when pyproject.toml or constraints.txt
# change; the project is a small one on top. No pip in what is run: nothing is installed there.

# --- cpu -----------------------------------------------------------------------------------------
FROM sources AS cpu-dependencies
ARG TORCH_INDEX
RUN python3 -m venv /opt/tspin \
    && pip install --no-cache-dir --constraint constraints.txt \
        ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch \
    && pip install --no-cache-dir --constraint constraints.txt '.[train,eval,pipelines]' \
    && pip uninstall --yes tspin pip \
    && rm -rf /build/*

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

# --- train ---------------------------------------------------------------------------------------
# The driver is the node's; CUDA's libraries come with torch.
FROM sources AS train-dependencies
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN python3 -m venv /opt/tspin \
    && pip install --no-cache-dir --constraint constraints.txt '.[train,pipelines]' \
    && pip uninstall --yes tspin pip \
    && rm -rf /build/*

FROM train-dependencies AS train-described
COPY --from=package /package /opt/tspin/src
COPY --from=describer /describer /describer
RUN /describer/bin/cyclonedx-py environment /opt/tspin --output-file /sbom.cdx.json

FROM train-dependencies AS train
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

# --- evaluate ------------------------------------------------------------------------------------
# An image of its own: the mathematics of the papers' tasks needs another antlr than DVC does, whose
# pin in the constraints does not hold here.
FROM sources AS evaluate-dependencies
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN python3 -m venv /opt/tspin \
    && grep -v '^antlr4-' constraints.txt > evaluate.txt \
    && pip install --no-cache-dir --constraint evaluate.txt \
        '.[train,eval,eval-paper,pipelines]' \
    && pip uninstall --yes tspin pip \
    && rm -rf /build/*

FROM evaluate-dependencies AS evaluate-described
COPY --from=package /package /opt/tspin/src
COPY --from=describer /describer /describer
RUN /describer/bin/cyclonedx-py environment /opt/tspin --output-file /sbom.cdx.json

FROM evaluate-dependencies AS evaluate
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
# vLLM's own image, with its Python, torch and vLLM. The constraints refuse another torch than the
# one that this release was tested with, rather than replace it.
FROM ${VLLM_IMAGE} AS generate-dependencies
ENV PATH=/opt/tspin/bin:$PATH \
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
# The command is a line of shell: whose Python it would have to name is the image's business.
RUN echo 'tspin:x:10001:10001::/cache:/sbin/nologin' >> /etc/passwd \
    && echo 'tspin:x:10001:' >> /etc/group \
    && mkdir -p /cache /opt/tspin/bin \
    && chown 10001:10001 /cache \
    && printf '#!/bin/sh\nexec python3 -m tspin "$@"\n' > /opt/tspin/bin/tspin \
    && chmod 755 /opt/tspin/bin/tspin
COPY --from=sources /build /build
WORKDIR /build
RUN python3 -m pip install --no-cache-dir --constraint constraints.txt \
        '.[train,pipelines,vllm]' \
    && python3 -m pip uninstall --yes tspin \
    && rm -rf /build/*

FROM generate-dependencies AS generate-described
COPY --from=package /package /opt/tspin/src
RUN python3 -m venv /describer \
    && /describer/bin/pip install --no-cache-dir cyclonedx-bom==7.5.0 \
    && /describer/bin/cyclonedx-py environment "$(command -v python3)" --output-file /sbom.cdx.json

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
