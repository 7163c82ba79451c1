# Two images from this repository:
#
#   docker build --build-arg FUNCTION=examples/send_email --tag send-email .     a function, the default target
#   docker build --target service --tag jobs .                                   worker, callback server, scheduler
#
# The last stages add Python packages with their bytecode in /opt/venv, and a function's code in /app, to the base image.
# They need no writable file system, and any user may run them.

# Any image with python3 (3.11 or newer) and its venv module. All stages use it.
ARG BASE_IMAGE=docker.io/library/python:3.13-slim-trixie

# Builds jobfn's wheel. For pip: a private index (PIP_INDEX_URL), or no index (PIP_NO_INDEX=1, with wheels in a folder
# that the builder mounts, PIP_FIND_LINKS).
FROM ${BASE_IMAGE} AS build
ARG PIP_INDEX_URL=
ARG PIP_NO_INDEX=
ARG PIP_FIND_LINKS=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ONLY_BINARY=:all: PYTHONDONTWRITEBYTECODE=1
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/venv
WORKDIR /build
COPY locks locks
RUN /opt/build/bin/pip install --require-hashes -r locks/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY templates templates
RUN /opt/build/bin/python -m hatchling build --target wheel --directory /wheels

# Installs exactly the function's lock, checked by hash, and jobfn's wheel without dependencies.
FROM build AS function-build
ARG PIP_INDEX_URL=
ARG PIP_NO_INDEX=
ARG PIP_FIND_LINKS=
ARG FUNCTION=examples/send_email
COPY ${FUNCTION} /app
RUN /opt/build/bin/pip --python /opt/venv/bin/python install --no-compile --no-deps --require-hashes \
        -r /app/requirements.lock \
    && /opt/build/bin/pip --python /opt/venv/bin/python install --no-compile --no-deps --no-index /wheels/jobfn-*.whl \
    && rm /app/requirements.lock \
    && /opt/venv/bin/python -m compileall -q -f --invalidation-mode unchecked-hash /opt/venv/lib /app \
    && chmod -R a+rX,go-w /app /opt/venv

FROM build AS service-build
ARG PIP_INDEX_URL=
ARG PIP_NO_INDEX=
ARG PIP_FIND_LINKS=
RUN /opt/build/bin/pip --python /opt/venv/bin/python install --no-compile --no-deps --require-hashes \
        -r locks/service.txt \
    && /opt/build/bin/pip --python /opt/venv/bin/python install --no-compile --no-deps --no-index /wheels/jobfn-*.whl \
    && /opt/venv/bin/python -m compileall -q -f --invalidation-mode unchecked-hash /opt/venv/lib \
    && chmod -R a+rX,go-w /opt/venv

# Common to both images.
FROM ${BASE_IMAGE} AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT"
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# By number, so that Kubernetes can verify that it is not root.
USER 65532:65532
STOPSIGNAL SIGTERM

FROM runtime AS service
LABEL org.opencontainers.image.title="jobfn-service" \
      org.opencontainers.image.description="Worker, callback server and scheduler of the jobs platform."
ENV INTERNAL_JOBS_CALLBACK_PORT=12345
COPY --from=service-build /opt/venv /opt/venv
WORKDIR /
EXPOSE 12345 12346
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python", "-c", "\
import http.client, os, sys; \
connection = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('JOBS_HEALTH_PORT') or 12346), timeout=4); \
connection.request('GET', '/healthz'); \
sys.exit(connection.getresponse().status != 200)"]
# Without a shell, so that SIGTERM reaches the process, which finishes running jobs and exits.
ENTRYPOINT ["python", "-m", "jobfn.service"]

FROM runtime AS function
ARG FUNCTION=examples/send_email
LABEL org.opencontainers.image.title="${FUNCTION}" \
      org.opencontainers.image.description="A job function."
ENV PORT=8080
COPY --from=function-build /opt/venv /opt/venv
COPY --from=function-build /app /app
WORKDIR /app
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python", "-c", "\
import http.client, os, sys; \
connection = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=4); \
connection.request('GET', '/healthz'); \
sys.exit(connection.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "jobfn.function"]
CMD ["functions.py"]
