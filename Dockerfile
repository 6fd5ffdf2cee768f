# The fleet in production: no compiler, no installer, no root, no writable file system but /tmp.
#
#   docker build -t fleet:0.1.0 .
#   docker run --read-only --tmpfs /tmp -p 9464:9464 -e REDIS_URL=redis://HOST:6379 \
#     -e SMTP_URL=smtps://HOST -e SITE_EMAIL_ALIAS=hi@acme.example fleet:0.1.0
#
# The base image is pinned by tag. Whoever builds for production should pin its digest too:
#   docker build --build-arg PYTHON=python:3.13-slim-bookworm@sha256:… .
ARG PYTHON=python:3.13-slim-bookworm

FROM ${PYTHON} AS base
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

# The project's own wheel. The build tools stay in this stage.
FROM base AS wheel
WORKDIR /src
COPY requirements-build.lock ./
RUN python -m pip install --require-hashes --only-binary :all: --requirement requirements-build.lock
COPY pyproject.toml README.md ./
COPY config config
COPY registry registry
COPY tasks tasks
COPY workers workers
RUN python -m hatchling build --target wheel --directory /wheel

# The virtual environment as it will run: locked dependencies first, since they change less often than the code.
# Wheels only, so nothing that needs a compiler can slip in.
FROM base AS build
WORKDIR /build
RUN python -m venv --without-pip /opt/fleet
COPY requirements.lock ./
RUN python -m pip --python /opt/fleet/bin/python install --require-hashes --only-binary :all: \
      --requirement requirements.lock
COPY --from=wheel /wheel /wheel
RUN python -m pip --python /opt/fleet/bin/python install --no-deps /wheel/*.whl

FROM ${PYTHON}
LABEL org.opencontainers.image.title="fleet" \
      org.opencontainers.image.description="The worker fleet in Python that runs beside a Node.js BullMQ stack" \
      org.opencontainers.image.licenses="Apache-2.0"

RUN groupadd --gid 10001 fleet \
 && useradd --uid 10001 --gid fleet --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin fleet

# Byte code was compiled at installation; the running fleet writes none. Safe path: a folder named like one of our
# packages in the working directory is not imported.
ENV PATH="/opt/fleet/bin:${PATH}" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1

# config/fleet.yaml came with the wheel; this is what a container changes in it.
COPY --from=build /opt/fleet /opt/fleet
COPY k8s/base/overlay.yaml /etc/fleet/overlay.yaml

USER 10001:10001
EXPOSE 9464
STOPSIGNAL SIGTERM

# For container engines; Kubernetes has probes of its own. A fleet without Redis is alive, so it is not restarted.
# Another port must be set by FLEET__HTTP__PORT to be found here: an overlay is not read.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
  CMD ["python", "-c", "from os import environ; from urllib.request import urlopen; \
urlopen('http://127.0.0.1:' + environ.get('FLEET__HTTP__PORT', '9464') + '/livez', timeout=4)"]

ENTRYPOINT ["fleet"]
CMD ["run", "--overlay", "/etc/fleet/overlay.yaml"]
