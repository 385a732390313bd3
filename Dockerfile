# The program as the compose file runs it: workers, starter, schema job.
#
# Paths in RUN are relative to WORKDIR, so that deploy/build-natively can run the same
# steps in a temporary folder.

# The Python that the tests run on.
ARG PYTHON=3.11.17-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /outlast
COPY requirements.lock ./
# Wheels only: nothing is compiled. The environment has no pip of its own.
RUN python -m venv --without-pip venv \
 && python -m pip --python venv/bin/python install --quiet --no-cache-dir \
      --disable-pip-version-check --only-binary :all: --require-hashes -r requirements.lock

FROM python:${PYTHON}
WORKDIR /outlast
COPY --from=build /outlast/venv venv
COPY starter.py worker.py pyproject.toml LICENSE ./
COPY outlast outlast
COPY workflows workflows
COPY activities activities
# Compiled here, since whoever runs it may not write here. Two folders belong to nobody,
# as /tmp does, so that the image runs under any user: within the first one they make
# a home of their own, which nobody else may write.
RUN venv/bin/python -m compileall -q starter.py worker.py outlast workflows activities \
 && mkdir -m 1777 state reports
ENV OUTLAST_HOME=/outlast/state/home
ENV OUTLAST_REPORTS=/outlast/reports
ENV PATH=/outlast/venv/bin:$PATH
ENV PYTHONUNBUFFERED=1
# A number has no name, and the embedded Temporal does not start without one.
ENV USER=outlast
USER 10001:10001
EXPOSE 9464
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=6 \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:9464/ready', timeout=2)"]
CMD ["python", "worker.py", "--health-host", "0.0.0.0", "--health-port", "9464"]
