# One image for every tier; its command is `longwick`. docker-compose.yml runs it.
FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/longwick
ENV PATH=/opt/longwick/bin:$PATH
COPY requirements.lock requirements-node.lock /source/
RUN pip install --require-hashes --requirement /source/requirements.lock
# Node is for building alone: it stays outside of what is shipped.
RUN python -m venv /opt/node && /opt/node/bin/pip install --require-hashes --requirement /source/requirements-node.lock
COPY . /source
RUN /opt/node/bin/python /source/vendor.py --omit=dev
RUN pip install --no-deps --no-build-isolation /source

FROM python:3.11-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin longwick \
    && install --directory --owner=longwick --group=longwick /data /srv/longwick
COPY --from=build /opt/longwick /opt/longwick
ENV PATH=/opt/longwick/bin:$PATH LONGWICK_DATA_DIR=/data PYTHONDONTWRITEBYTECODE=1
# Empty: what lies in the current folder could be taken for a module of ours.
WORKDIR /srv/longwick
USER 10001:10001
ENTRYPOINT ["longwick"]
CMD ["--help"]
