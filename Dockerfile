# The bench in a container: TinyMetaFed with QEMU, from a wheel that is built from this folder.
#   docker build -t tinymetafed .
#   docker run --rm -v tinymetafed-runs:/runs tinymetafed run demo
FROM debian:12-slim AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake gcc gcc-arm-none-eabi libc6-dev \
        libnewlib-arm-none-eabi ninja-build python3 python3-venv
WORKDIR /source
COPY . .
RUN python3 -m venv /opt/tinymetafed && /opt/tinymetafed/bin/pip install --no-cache-dir '.[report]'

FROM debian:12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 qemu-system-arm \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/tinymetafed /opt/tinymetafed

# Runs, and data sets that are downloaded, are what has to be written to and to stay.
RUN useradd --system --no-create-home --shell /usr/sbin/nologin bench \
    && mkdir -p /runs/cache \
    && chown -R bench /runs
ENV PATH=/opt/tinymetafed/bin:$PATH TMF_RUNS=/runs XDG_CACHE_HOME=/runs/cache MPLCONFIGDIR=/tmp/matplotlib
VOLUME /runs
USER bench

ENTRYPOINT ["tinymetafed"]
CMD ["--help"]
