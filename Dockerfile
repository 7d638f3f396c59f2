# syntax=docker/dockerfile:1

# One image for the API, the workers and Flower. It holds no compiler, no shell scripts of ours and
# no secret; everything that is written goes to /data.

FROM python:3.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 \
    UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
WORKDIR /build
RUN pip install uv==0.13.8 && python -m venv --without-pip /opt/fleek
# The libraries change seldom: they have a layer of their own.
COPY requirements.lock ./
RUN uv pip install --python /opt/fleek/bin/python --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY packages ./packages
COPY src ./src
RUN uv pip install --python /opt/fleek/bin/python --no-deps ./packages/client .

FROM python:3.13-slim-bookworm
RUN groupadd --gid 10001 fleek \
    && useradd --uid 10001 --gid fleek --no-create-home --shell /usr/sbin/nologin fleek \
    && install --directory --owner=fleek --group=fleek /data
COPY --from=build /opt/fleek /opt/fleek
# TMPDIR: files that are being fetched are large, and /tmp may be memory.
ENV PATH=/opt/fleek/bin:$PATH \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    TMPDIR=/data \
    API_HOST=0.0.0.0
WORKDIR /data
VOLUME /data
USER 10001:10001
EXPOSE 8000
# For the API; compose.yaml gives workers their own: fleek health --worker.
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=3 \
    CMD ["fleek", "health", "--quiet"]
CMD ["fleek", "serve"]
