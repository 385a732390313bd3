# The program as the compose file runs it: workers, starter, schema job.

# The Python that the tests run on.
ARG PYTHON=3.11.17-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /outlast
COPY requirements.lock requirements-build.lock ./
# Wheels only: nothing is compiled. The environment has no pip of its own.
RUN python -m venv --without-pip venv \
 && python -m pip --python venv/bin/python install --quiet --no-cache-dir \
      --disable-pip-version-check --only-binary :all: --require-hashes \
      -r requirements.lock -r requirements-build.lock
COPY pyproject.toml README.md LICENSE sources/
COPY outlast sources/outlast
COPY workflows sources/workflows
COPY activities sources/activities
# Installed as anywhere else, so that an image on top of this one can install a project
# that asks for outlast. What built it stays behind.
RUN python -m pip --python venv/bin/python install --quiet --no-cache-dir \
      --disable-pip-version-check --no-deps --no-build-isolation ./sources \
 && python -m pip --python venv/bin/python uninstall --quiet --yes setuptools

FROM python:${PYTHON}
WORKDIR /outlast
COPY --from=build /outlast/venv venv
# Two folders belong to nobody, as /tmp does, so that the image runs under any user:
# within the first one they make a home of their own, which nobody else may write.
RUN mkdir -m 1777 state reports
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
CMD ["outlast-worker", "--health-host", "0.0.0.0", "--health-port", "9464"]
