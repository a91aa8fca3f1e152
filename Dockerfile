# The bench in a container: TinyMetaFed with QEMU, built from this folder.
#   docker build -t tinymetafed .
#   docker run --rm -v tinymetafed-runs:/runs tinymetafed run experiments/demo.toml
FROM debian:12-slim

# What 'make setup' would install; python3 is 3.11.
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake gcc gcc-arm-none-eabi libc6-dev \
        libnewlib-arm-none-eabi make ninja-build python3 python3-venv qemu-system-arm \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/tinymetafed
COPY . .
RUN make setup PYTHON=python3

# Runs, and data sets that are downloaded, are what has to be written to and to stay.
RUN useradd --system --no-create-home --shell /usr/sbin/nologin bench \
    && mkdir -p /runs datasets/cache \
    && chown bench /runs datasets/cache
ENV PATH=/opt/tinymetafed/.venv/bin:$PATH TMF_RUNS=/runs MPLCONFIGDIR=/tmp/matplotlib
VOLUME /runs
USER bench

ENTRYPOINT ["tinymetafed"]
CMD ["--help"]
