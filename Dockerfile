ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS build
WORKDIR /build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# Extras to install besides, such as `tracing`; those are sections of the lock file.
ARG EXTRAS=""
# The dependencies are a layer of their own, built anew only when the lock changes. Byte code that is never checked
# against its source stays valid whatever happens to the files' times.
COPY requirements.lock ./
RUN for section in runtime $EXTRAS; do \
      grep -qx "# $section" requirements.lock || { echo "requirements.lock has no section $section"; exit 1; }; \
      sed -n "/^# $section\$/,/^\$/p" requirements.lock >> runtime.txt; \
    done \
    && sed -n '/^# build$/,/^$/p' requirements.lock > build.txt \
    && python -m venv --without-pip /opt/participants \
    && python -m pip --python /opt/participants install --no-compile --require-hashes -r runtime.txt \
    && python -m pip install --require-hashes -r build.txt \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/participants
COPY LICENSE README.md pyproject.toml ./
COPY generated generated
COPY server server
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist ./generated . \
    && python -m pip --python /opt/participants install --no-compile --no-deps dist/*.whl \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/participants

FROM python:${PYTHON_VERSION}-slim
LABEL org.opencontainers.image.title="participants" \
      org.opencontainers.image.description="The participant service: create a participant, or update it if its external_id exists." \
      org.opencontainers.image.licenses="Apache-2.0"
# The driver of the database brings an OpenSSL of its own, which looks for certificates where this image has none.
ENV PATH=/opt/participants/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    PARTICIPANTS_GRPC_ADDRESS=0.0.0.0:50051 \
    PARTICIPANTS_HTTP_ADDRESS=0.0.0.0:8080
COPY --from=build /opt/participants /opt/participants
# The base image has no byte code of the standard library, and a read-only file system cannot keep any: starting once
# here writes what every start and every health check needs. Nothing is installed into a running container.
RUN participants --help > /dev/null \
    && /usr/local/bin/python -m pip uninstall --yes --quiet --root-user-action ignore pip \
    && useradd --uid 10001 --no-log-init --no-create-home --shell /usr/sbin/nologin participants
ENV PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 50051 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["participants", "health"]
ENTRYPOINT ["participants"]
CMD ["serve"]
