# The API and, where it was built before (`make serve` does), the page: CPU only, no torch, not root.
#
#   docker build -t dsr-edgeface .
#   docker run --rm --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#     -p 127.0.0.1:8000:8000 -e DSR_API_TOKEN -v "$PWD/checkpoints:/app/checkpoints:ro" -v faces:/data dsr-edgeface
#
# The models (edgeface.onnx, chain.onnx, dsr.onnx of pipeline.export) are not in the image: mount them, as above.
# Without DSR_API_TOKEN nobody can be enrolled.
FROM python:3.13-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY pyproject.toml poetry.lock poetry.toml README.md ./
COPY tools/bootstrap.sh tools/
COPY technical technical
RUN INSTALL_OPTIONS="--only main --extras api" bash tools/bootstrap.sh

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /data faces && install -d -o faces -m 700 /data
WORKDIR /app
COPY --from=build /app/.venv .venv
COPY technical technical
USER faces
VOLUME /data
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["/app/.venv/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["/app/.venv/bin/python", "-m", "pipeline.api", "--host", "0.0.0.0", "--gallery", "/data/people.sqlite"]
