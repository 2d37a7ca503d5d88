# The project with its three environments, for a processor:
#
#     docker build -t alexnet-twice .
#     docker run --rm -v "$PWD/results:/alexnet/results" alexnet-twice nox -s audit
FROM python:3.11-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git libgomp1 \
    && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir nox
WORKDIR /alexnet
COPY . .
ENV TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN nox -s env-compare env-gluon env-deepspeed
CMD ["nox", "-s", "tests"]
