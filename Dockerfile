# docs/containers.md says how to build and run it.
#   docker build --tag mobius:cpu .                              torch for CPUs
#   docker build --tag mobius:cuda --build-arg DEVICE=cuda .     torch with CUDA
# BASE: Debian or Ubuntu with Python 3.11 to 3.13 and its venv.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG DEVICE=cpu
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=s3
ENV PATH=/opt/venv/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/venv
WORKDIR /build
COPY pyproject.toml requirements.lock ./
# What the package needs, without the tools of its development, in the lock's versions: a layer that stays until one of
# these two files changes. Pip's settings come as a secret, since build arguments show in the image's history.
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    mkdir -p src/mobius_pipeline && touch README.md LICENSE src/mobius_pipeline/__init__.py && \
    case "$DEVICE" in \
        cpu) pip install --no-deps --index-url "$TORCH_CPU_INDEX" "$(grep '^torch==' requirements.lock)" ;; \
        cuda) ;; \
        *) echo "DEVICE is cpu or cuda, not $DEVICE" >&2; exit 1 ;; \
    esac && \
    pip install --constraint requirements.lock ".[$EXTRAS]"
COPY README.md LICENSE ./
COPY src src
# `build` holds the layer's empty package, which setuptools would take for the newer one.
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    rm -rf build && pip install --no-deps --force-reinstall . && pip check

FROM ${BASE}
ARG UID=1000
# tini passes SIGTERM on from the first moment, when Python as process 1 would ignore it, and reaps orphans.
# Its version is Debian's, which offers one at a time.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends tini && rm -rf /var/lib/apt/lists/* && \
    useradd --no-log-init --uid "$UID" --gid 0 --home-dir /tmp --no-create-home mobius && \
    install --directory --owner="$UID" --group=0 --mode=2775 /project /project/data /project/mlruns
COPY --from=build /opt/venv /opt/venv
WORKDIR /project
COPY requirements.lock ./
COPY conf conf
# HOME: a place that every user may write, in a read-only container, too. LNAME: for an id without a name, which
# DVC refuses; USER goes before it. MALLOC: see the Makefile.
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp DVC_SITE_CACHE_DIR=/tmp/dvc LNAME=mobius PYTHONUNBUFFERED=1 GIT_PYTHON_REFRESH=quiet \
    MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=4294967296
USER ${UID}
ENTRYPOINT ["tini", "--"]
CMD ["mobius-pipeline"]
