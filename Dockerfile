# For those without Linux or a CUDA build of PyTorch; no GPU is needed. 9 GB.
#   docker build -t harness .
#   docker run --rm -v "$PWD:/work" harness predict my_model.py:Net --input 3x224x224 --gpu l4
FROM python:3.13-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc g++ libc6-dev make git \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /harness
COPY . .
RUN python3 .ci/install.py .venv test
# A home that any user may write: docker run --user "$(id -u):$(id -g)" leaves files of your own.
ENV PATH=/harness/.venv/bin:$PATH HOME=/tmp
WORKDIR /work
ENTRYPOINT ["harness"]
CMD ["--help"]
